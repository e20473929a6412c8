"""One deployment on several machines: two for web, three for workers, one each for PostgreSQL, Redis and Leadway.

Each machine has a working folder of its own, so its own journal, counters and files of keys. The test itself stands on
Leadway's machine, and looks at the database over the cable as anybody could.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests.environments.network import Network
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import PlacedCall
from tests.support.processes import Processes
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

WEB_HOSTS = ("web1", "web2")
WORKER_HOSTS = ("worker1", "worker2", "worker3")
HOSTS = (*WEB_HOSTS, *WORKER_HOSTS)
LINE_OF = {**dict.fromkeys(WEB_HOSTS, "web"), **dict.fromkeys(WORKER_HOSTS, "worker")}
WEB_PORT = 8000
START_SECONDS = 60.0
QUEUES_OF_A_CONNECTION = 4
"""The column of the kernel's table of connections: bytes to send, and bytes to read."""


class Site:
    """The machines, with PostgreSQL and Redis running on theirs: `with Site(folder) as site:`."""

    def __init__(self, folder: Path) -> None:
        self.network = Network("leadway", "db", "redis", "redis2", *HOSTS)
        self._folder = folder
        self._stack = ExitStack()
        self.postgres: PostgresServer
        self.redis: dict[str, EmbeddedRedis] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.network)
            relays = stack.enter_context(Processes(self._folder, {}))
            with self.network.inside("db"):
                self.postgres = stack.enter_context(PostgresServer())
                _relay(relays, "db", self.network.address("db"), 5432, "127.0.0.1", self.postgres.port)
            for machine in ("redis", "redis2"):
                with self.network.inside(machine):
                    server = stack.enter_context(EmbeddedRedis(self._folder / machine))
                    self.redis[machine] = server
                    port = int(server.url.rpartition(":")[2].partition("/")[0])
                    _relay(relays, machine, self.network.address(machine), 6379, "127.0.0.1", port)
            stack.enter_context(self.network.inside("leadway"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def new_database(self, name: str) -> str:
        """Returns its URL, as the machines know it."""
        with self.network.inside("db"):
            url = self.postgres.create_database(name)
        return url.replace(f"127.0.0.1:{self.postgres.port}", f"{self.network.address('db')}:5432")

    def redis_url(self, machine: str = "redis") -> str:
        password = self.redis[machine].url.partition("@")[0]
        return f"{password}@{self.network.address(machine)}:6379/0"


class Deployment:
    """`with Deployment(site, folder, database_url=…) as deployment: deployment.start(*HOSTS)`. The database has no
    schema yet."""

    def __init__(
        self, site: Site, folder: Path, *, database_url: str, release: Mapping[str, str] | None = None
    ) -> None:
        """`release`: the environment of the code that makes the schema, if it is not this code."""
        self.network = site.network
        self.double = LeadwayDouble(host="0.0.0.0", time_zone="UTC")
        self.world = World(folder, database_url=database_url, redis_url=site.redis_url(), double=self.double)
        self._schema_by = release
        self.hosts: dict[str, Processes] = {}
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.world)
            port = self.double.url.rpartition(":")[2]
            environment = self.world.processes.environment
            environment["LEADWAY_API_URL"] = f"http://127.0.0.1:{port}"
            self.migrate(environment=self._schema_by)
            for host in HOSTS:
                folder = self._folder / host
                folder.mkdir()
                own = {"HOME": str(folder), "HOST": "0.0.0.0", "PORT": str(WEB_PORT)}
                self.hosts[host] = stack.enter_context(Processes(folder, {**environment, **own}))
                with self.network.inside(host):
                    leadway = self.network.address("leadway")
                    _relay(self.hosts[host], "relay", "127.0.0.1", int(port), leadway, int(port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def start(self, *hosts: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """Starts what each host is for, and waits until all are alive. Returns under which name each worker holds its
        leases."""
        logged = {host: len(self._names_logged(host)) for host in hosts}
        for host in hosts:
            self.start_line(host, LINE_OF[host], environment=environment)
        names: dict[str, str] = {}
        for host in hosts:
            if LINE_OF[host] == "web":
                eventually(lambda host=host: self.answers(host), timeout=START_SECONDS, describe=f"{host} to be ready")
            else:
                [names[host]] = eventually(
                    lambda host=host: self._names_logged(host)[logged[host] :],
                    timeout=START_SECONDS,
                    describe=f"the worker of {host} to start",
                )
        eventually(
            lambda: self.hearts("worker") >= set(names.values()), timeout=START_SECONDS, describe="their hearts to beat"
        )
        return names

    def start_line(self, host: str, line: str, *, environment: Mapping[str, str] | None = None) -> None:
        with self.network.inside(host):
            self.hosts[host].start(line, environment=environment)

    def migrate(self, *, environment: Mapping[str, str] | None = None) -> None:
        processes = self.world.processes
        processes.run(
            ["leadway-calls", "migrate"], name="release", environment=environment
        )  # an older one knows it too
        assert processes.wait("release") == 0, processes.log("release")

    def stop(self, *hosts: str) -> None:
        for host in hosts:
            assert self.hosts[host].stop(LINE_OF[host]) == 0

    def hearts(self, process: str) -> set[str]:
        return {row["name"] for row in self.world.rows("SELECT name FROM heartbeats WHERE process = :it", it=process)}

    def answers(self, host: str) -> bool:
        return requests.get(f"http://{self.network.address(host)}:{WEB_PORT}/readyz", timeout=5).ok

    def webhook_of(self, host: str) -> str:
        return f"http://{self.network.address(host)}:{WEB_PORT}/webhooks/leadway"

    def metrics(self, host: str) -> str:
        """As told on the machine itself."""
        with self.network.inside(host):
            answer = requests.get(f"http://127.0.0.1:{WEB_PORT}/metrics", timeout=10)
        answer.raise_for_status()
        return answer.text

    def announce(self, number: int, *hosts: str) -> list[PlacedCall]:
        """So many calls end, each owes a note. Their notifications go to the hosts in turn; all are answered 202."""
        calls = [self.double.place_call(actions=["CALL_TRANSFER"], contact=True) for _ in range(number)]
        deliveries = [
            self.double.notify(call, url=self.webhook_of(hosts[turn % len(hosts)]), wait=False)
            for turn, call in enumerate(calls)
        ]
        for delivery in deliveries:
            assert delivery.wait(60)
        assert {attempt.status for delivery in deliveries for attempt in delivery.attempts} == {202}
        return calls

    def has_unsent(self, host: str) -> bool:
        """Whether the host's kernel still holds bytes that it has to send, for whoever lives or has ended."""
        with self.network.inside(host):
            connections = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        queues = (line.split()[QUEUES_OF_A_CONNECTION] for line in connections)
        return any(int(each.partition(":")[0], 16) for each in queues)

    def finished_by(self) -> dict[str, int]:
        """How many calls each worker has read to their end."""
        done = (
            "SELECT worker, count(*) AS number FROM attempts WHERE kind = 'call' AND outcome = 'done' GROUP BY worker"
        )
        return {row["worker"]: row["number"] for row in self.world.rows(done)}

    @contextmanager
    def cut_off(self, host: str, *targets: str) -> Iterator[None]:
        """The host's cable is out during the block, or the host alone does not reach the targets."""
        if not targets:
            self.network.cut(host)
        for target in targets:
            self.network.hide(target, of=host)
        try:
            yield
        finally:
            if not targets:
                self.network.mend(host)
            for target in targets:
                self.network.show(target, to=host)

    def _names_logged(self, host: str) -> list[str]:
        """Of each worker that has started there. The machine's own name is the same in each namespace."""
        processes = self.hosts[host]
        log = processes.log("worker") if (processes.folder / "worker.log").exists() else ""
        return [json.loads(line)["name"] for line in log.splitlines() if '"worker_started"' in line]


def _relay(processes: Processes, name: str, address: str, port: int, to: str, to_port: int) -> None:
    words: Sequence[object] = (address, port, to, to_port)
    processes.run(["python", "-m", "tests.environments.relay", *map(str, words)], name=f"{name}-relay")
