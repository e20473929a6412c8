"""The same job under other queues: `python -m tests.benchmarks.peers.queues work|enqueue QUEUE [NUMBER PREFIX]`.

QUEUE: bare (threads on BRPOP), celery, dramatiq, huey, rq. The environment has PEER_REDIS_URL, PEER_DATABASE_URL and
PEER_API_URL.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import redis

from tests.benchmarks.peers.job import THREADS, fetch_and_store

URL = os.environ.get("PEER_REDIS_URL", "redis://127.0.0.1")


class Bare:
    def __init__(self) -> None:
        self.client = redis.Redis.from_url(URL)

    def enqueue(self, call_id: str) -> None:
        self.client.lpush("bare", call_id)

    def work(self) -> None:
        def run() -> None:
            while True:
                popped: Any = self.client.brpop(["bare"])
                fetch_and_store(popped[1].decode())

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


class OnCelery:
    def __init__(self) -> None:
        from celery import Celery

        self.app = Celery("peer", broker=URL)
        self.app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, worker_hijack_root_logger=False)
        self.task = self.app.task(name="peer.fetch")(fetch_and_store)

    def enqueue(self, call_id: str) -> None:
        self.task.delay(call_id)

    def work(self) -> None:
        self.app.worker_main(["worker", "--pool=threads", f"--concurrency={THREADS}", "--loglevel=WARNING"])


class OnDramatiq:
    def __init__(self) -> None:
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        self.broker = RedisBroker(url=URL)
        dramatiq.set_broker(self.broker)
        self.actor: Any = dramatiq.actor(fetch_and_store)

    def enqueue(self, call_id: str) -> None:
        self.actor.send(call_id)

    def work(self) -> None:
        from dramatiq import Worker

        worker = Worker(self.broker, worker_threads=THREADS)
        worker.start()
        threading.Event().wait()


class OnHuey:
    def __init__(self) -> None:
        from huey import RedisHuey

        self.huey = RedisHuey("peer", url=URL, results=False)
        self.task: Any = self.huey.task()(fetch_and_store)

    def enqueue(self, call_id: str) -> None:
        self.task(call_id)

    def work(self) -> None:
        self.huey.create_consumer(workers=THREADS, worker_type="thread", periodic=False).run()


class OnRq:
    def __init__(self) -> None:
        from rq import Queue

        self.client = redis.Redis.from_url(URL)
        self.queue = Queue("peer", connection=self.client)

    def enqueue(self, call_id: str) -> None:
        self.queue.enqueue(fetch_and_store, call_id, result_ttl=0)

    def work(self) -> None:
        from rq import SimpleWorker

        SimpleWorker([self.queue], connection=self.client).work(logging_level="WARNING")


QUEUES: dict[str, Callable[[], Any]] = {
    "bare": Bare, "celery": OnCelery, "dramatiq": OnDramatiq, "huey": OnHuey, "rq": OnRq,
}  # fmt: skip


def main() -> None:
    verb, name, *rest = sys.argv[1:]
    queue = QUEUES[name]()
    if verb == "work":
        queue.work()
        return
    number, prefix = int(rest[0]), rest[1]
    for position in range(number):
        queue.enqueue(f"{prefix}-{position}")


if __name__ == "__main__":
    main()
