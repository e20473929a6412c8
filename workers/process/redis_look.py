"""One look at Redis, for the verdict: does it answer, does it keep what it holds, how much waits in its queues."""

from models.reports.verdict.findings import RedisSeen
from models.reports.verdict.of_processes import NEEDED_QUEUES

REDIS_LOOK_SECONDS = 1.0
"""For each answer."""


def look(redis_url: str) -> RedisSeen:
    """PING decides: a user may have no right to ask about the rest."""
    from redis import Redis, RedisError, ResponseError  # here: a web process answers its first notification before
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with Redis.from_url(
            redis_url,
            socket_timeout=REDIS_LOOK_SECONDS,
            socket_connect_timeout=REDIS_LOOK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
            try:
                policy = client.info("memory").get("maxmemory_policy")
                queued = {queue: int(client.llen(queue)) for queue in NEEDED_QUEUES}
            except ResponseError:
                return RedisSeen()
    except (RedisError, ValueError, OSError) as error:
        return RedisSeen(trouble=f"does not answer ({type(error).__name__})")
    return RedisSeen(policy=policy, queued=queued)
