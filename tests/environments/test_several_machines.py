"""One deployment on several machines: work is shared, and clocks, cables, releases and a wrong Redis harm nothing."""

import io
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from tests.crash.consistency import inconsistencies
from tests.environments.deployment import HOSTS, WEB_HOSTS, WORKER_HOSTS, Deployment, Site
from tests.leadway_double.nouns import PlacedCall
from tests.support.clock import ROOT
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from tests.support.world import notes_due, notes_written

pytestmark = pytest.mark.timeout(400)

BEFORE = "ed1b34787a173e6782ca88264568c08353efd588"
"""The commit before the first one of several machines: a deployment of it is brought to this tree."""
MANY_SECONDS = 120.0
MACHINES_APART = {"web1": 3, "web2": -3, "worker1": 3, "worker2": -3}
HOUR = 3600

_numbers = count(1)

StartDeployment = Callable[..., Deployment]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as started:
        yield started


@pytest.fixture
def deploy(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartDeployment]:
    """Makes a database with the schema; nothing runs on the machines yet."""
    with ExitStack() as stack:

        def start(**release: str) -> Deployment:
            name = re.sub(r"\W+", "_", request.node.name).lower()[-60:]
            url = site.new_database(name)
            return stack.enter_context(Deployment(site, tmp_path, database_url=url, release=release))

        yield start


def assert_all_done(deployment: Deployment, calls: list[PlacedCall]) -> None:
    deployment.world.wait_until_done(calls=len(calls), timeout=MANY_SECONDS)
    written, due = notes_written(deployment.world), notes_due(calls)
    assert {each: (written.get(each, 0), due[each]) for each in due if written.get(each, 0) != due[each]} == {}
    assert deployment.world.call_statuses() == {"complete": len(calls)}
    assert inconsistencies(deployment.world) == []


def test_two_web_hosts_receive_three_worker_hosts_share_the_work_and_each_host_tells_its_own_numbers(
    deploy: StartDeployment,
) -> None:
    deployment = deploy()
    workers = deployment.start(*HOSTS)
    deployment.start_line("worker1", "beat")
    for host in WORKER_HOSTS:  # as docs/operating/scaling.md wants it: its `/metrics`, and no notification
        deployment.start_line(host, "web", environment={"HOST": "127.0.0.1"})
    calls = deployment.announce(121, *WEB_HOSTS)
    assert_all_done(deployment, calls)
    done = deployment.finished_by()
    assert set(done) == set(workers.values()), "each host has worked"

    received = 'leadway_notifications_total{authenticated_by="ed25519",status="accepted"}'
    assert [told(deployment.metrics(host), received) for host in WEB_HOSTS] == [61, 60]
    finished = 'leadway_attempts_total{outcome="settled",work="call"}'
    for host, name in workers.items():
        eventually(
            lambda host=host, name=name: told(deployment.metrics(host), finished) == done[name],
            timeout=30,
            describe=lambda host=host, name=name: (
                f"{host} to tell {done[name]}, it tells {told(deployment.metrics(host), finished)}"
            ),
        )
        assert told(deployment.metrics(host), received) == 0
    assert [told(deployment.metrics(host), finished) for host in WEB_HOSTS] == [0, 0]
    assert "Everything is well." in deployment.world.command("status", name="status")


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_with_all_clocks_apart_and_one_by_an_hour_calls_are_stored_and_noted_once_and_the_clocks_are_told(
    deploy: StartDeployment, shifted_clock: Path, seconds: int
) -> None:
    deployment = deploy()
    for host, shift in {**MACHINES_APART, "worker3": seconds}.items():
        clock = {"LD_PRELOAD": str(shifted_clock), "CLOCK_SHIFT": str(shift)}
        deployment.start(host, environment=clock)
        if host == "worker3":
            deployment.start_line(host, "beat", environment=clock)
    deployment.double.fault("fetch", "status", status=500, times=3)
    deployment.double.fault("create_note", "do_then_reset", times=3)
    calls = deployment.announce(60, *WEB_HOSTS)
    deployment.double.fault("fetch", "status", status=429, retry_after=1, times=1)
    calls += deployment.announce(60, *WEB_HOSTS)
    assert_all_done(deployment, calls)
    assert len(deployment.finished_by()) == len(WORKER_HOSTS), "no host stood still"
    said = said_by(deployment, "status")
    for shift in (3, -3, seconds):
        assert re.search(rf"{abs(shift)}\.[01] s {'ahead' if shift > 0 else 'behind'}", said), said


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("clock") / "shifted.so"
    compiler = shutil.which("cc")
    assert compiler is not None, "this test shifts clocks: install a C compiler, Debian's package gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, ROOT / "tests/clocks/shifted.c"], check=True)
    return library


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "is gone for good"])
def test_what_a_worker_host_held_when_it_was_cut_off_is_done_by_the_others_and_no_note_is_doubled(
    deploy: StartDeployment, comes_back: bool
) -> None:
    deployment = deploy()
    names = deployment.start("web1", "worker1")
    double = deployment.double
    held = [double.fault("fetch", "hold", times=3), double.fault("create_note", "do_then_hold", times=3)]
    calls = deployment.announce(12, "web1")
    eventually(lambda: double.under_way() == 6, timeout=30, describe="worker1 to wait for six answers")
    with ExitStack() as cut:
        cut.enter_context(deployment.cut_off("worker1"))
        names |= deployment.start("worker2", "worker3")
        for fault in held:
            double.release(fault)
        calls += deployment.announce(24, "web1")
        assert_all_done(deployment, calls)
        if comes_back:
            cut.close()
            before = deployment.finished_by().get(names["worker1"], 0)

            def works_again() -> bool:
                calls.extend(deployment.announce(8, "web1"))
                deployment.world.wait_until_done(calls=len(calls), timeout=MANY_SECONDS)
                return deployment.finished_by().get(names["worker1"], 0) > before

            eventually(works_again, timeout=60, describe="worker1 to work again")
            assert deployment.hosts["worker1"].is_running("worker")
        else:
            gone = f"gone {names['worker1']}"
            eventually(
                lambda: gone in said_by(deployment, "status"),
                timeout=30,
                describe=lambda: said_by(deployment, "status"),
            )
    assert_all_done(deployment, calls)


@pytest.mark.parametrize("target", ["db", "redis", "leadway"])
def test_a_worker_host_that_does_not_reach_one_machine_goes_on_when_it_does_again_and_harms_nothing_meanwhile(
    deploy: StartDeployment, target: str
) -> None:
    deployment = deploy()
    names = deployment.start(*HOSTS)
    deployment.double.set_webhook_url(deployment.webhook_of("web2"))
    with Traffic(deployment.world, per_second=8, actions=["CALL_TRANSFER"]) as traffic:
        eventually(lambda: len(deployment.finished_by()) == len(WORKER_HOSTS), timeout=60)
        with deployment.cut_off("worker2", target):
            at = len(traffic.calls)
            eventually(lambda: len(traffic.calls) >= at + 80, timeout=60, describe="ten seconds of traffic")
        before = deployment.finished_by()[names["worker2"]]
        eventually(lambda: deployment.finished_by()[names["worker2"]] > before, timeout=60, describe="worker2 to work")
    eventually(lambda: not deployment.has_unsent("worker2"), timeout=60, describe="what was sent late to have come")
    assert_all_done(deployment, traffic.calls)
    assert all(deployment.hosts[host].is_running("worker") for host in WORKER_HOSTS)


def test_a_web_host_without_the_database_writes_its_own_journal_and_drains_it_when_it_is_back(
    deploy: StartDeployment,
) -> None:
    deployment = deploy()
    deployment.start("web1", "web2", "worker1")
    calls = deployment.announce(10, *WEB_HOSTS)
    with deployment.cut_off("web1", "db"):
        calls += deployment.announce(30, *WEB_HOSTS)
        journaled = told(deployment.metrics("web1"), "leadway_journal_rows")
        assert journaled >= 15, "what could not be written down lies on this host"
        assert told(deployment.metrics("web1"), "leadway_database_up") == 0
        assert told(deployment.metrics("web2"), "leadway_journal_rows") == 0
        deployment.world.wait_until_done(calls=len(calls) - int(journaled), timeout=MANY_SECONDS)
    eventually(lambda: told(deployment.metrics("web1"), "leadway_journal_rows") == 0, timeout=60)
    assert_all_done(deployment, calls)


def test_a_web_host_without_redis_receives_and_its_calls_are_done_within_seconds(deploy: StartDeployment) -> None:
    deployment = deploy()
    deployment.start("web1", "worker1")
    with deployment.cut_off("web1", "redis"):
        assert_all_done(deployment, deployment.announce(20, "web1"))


def test_a_deployment_of_the_release_before_is_replaced_host_by_host_while_calls_come_in(
    deploy: StartDeployment, code_before: Path
) -> None:
    old = {"PYTHONPATH": str(code_before)}
    deployment = deploy(**old)
    before = deployment.start(*HOSTS, environment=old)
    versions = "SELECT DISTINCT version FROM heartbeats WHERE name = ANY(:names)"
    [old_version] = [row["version"] for row in deployment.world.rows(versions, names=list(before.values()))]

    def until_all_have_worked(names: dict[str, str]) -> None:
        finished = deployment.finished_by()
        eventually(
            lambda: all(deployment.finished_by().get(name, 0) > finished.get(name, 0) for name in names.values()),
            timeout=60,
            describe=lambda: f"{names} to work: {finished}, then {deployment.finished_by()}",
        )

    deployment.double.set_webhook_url(deployment.webhook_of("web1"))
    with Traffic(deployment.world, per_second=8, actions=["CALL_TRANSFER"]) as traffic:
        until_all_have_worked(before)
        deployment.migrate()
        until_all_have_worked(before)
        deployment.stop("worker1")
        after = deployment.start("worker1")
        until_all_have_worked({"worker2": before["worker2"], **after})  # an old web, an old worker and a new one
        deployment.double.set_webhook_url(deployment.webhook_of("web2"))
        deployment.stop("web1")
        deployment.start("web1")
        deployment.double.set_webhook_url(deployment.webhook_of("web1"))
        until_all_have_worked({"worker3": before["worker3"], **after})  # a new web too
        deployment.stop("web2", "worker2", "worker3")
        after |= deployment.start("web2", "worker2", "worker3")
        deployment.double.set_webhook_url(deployment.webhook_of("web2"))
        until_all_have_worked(after)
    assert_all_done(deployment, traffic.calls)
    [new_version] = [row["version"] for row in deployment.world.rows(versions, names=list(after.values()))]
    assert old_version != new_version, "two releases ran side by side"


@pytest.fixture(scope="module")
def code_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of BEFORE, as a release of it was deployed."""
    archived = subprocess.run(["git", "-C", ROOT, "archive", BEFORE], capture_output=True)
    assert archived.returncode == 0, (
        f"the release before is commit {BEFORE}, which this clone does not have: fetch the whole history with"
        f" `git fetch --unshallow` ({archived.stderr.decode(errors='replace').strip()})"
    )
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


def test_a_second_deployment_on_the_same_database_is_told_within_a_minute_and_one_redis_that_forgets_is_not(
    site: Site, deploy: StartDeployment
) -> None:
    deployment = deploy()
    deployment.start("web1", "worker1", "worker2")
    calls = deployment.announce(10, "web1")
    began_at = time.monotonic()
    names = deployment.start("worker3", environment={"REDIS_URL": site.redis_url("redis2")})
    said = eventually(lambda: several_told(deployment), timeout=60, describe="two deployments to be told")
    assert time.monotonic() - began_at < 60
    assert names["worker3"] in said
    assert "different Redis" in said_by(deployment, "doctor")
    deployment.stop("worker3")
    eventually(lambda: not several_told(deployment), timeout=30, describe="it to be told no longer")

    old = epochs(deployment)
    with Redis.from_url(site.redis_url()) as client:
        client.flushall()
    seen: set[frozenset[str]] = set()

    def new_is_told_by_both() -> bool:
        seen.add(epochs(deployment))
        return len(epochs(deployment)) == 1 and epochs(deployment).isdisjoint(old) and both_tell(deployment)

    eventually(new_is_told_by_both, timeout=60, describe="the new epoch to be told")
    assert max(map(len, seen)) == 1, "never two at once, though not all workers saw the new one at once"
    assert_all_done(deployment, calls)


def said_by(deployment: Deployment, command: str) -> str:
    """What the command says now, in one line."""
    return " ".join(deployment.world.command(command, name=f"{command}-{next(_numbers)}").split())


def several_told(deployment: Deployment) -> str:
    """What `status` says of several deployments."""
    said = said_by(deployment, "status")
    return said[said.index("different Redis") :] if "different Redis" in said else ""


def epochs(deployment: Deployment) -> frozenset[str]:
    rows = deployment.world.rows("SELECT DISTINCT redis_epoch FROM heartbeats WHERE redis_epoch IS NOT NULL")
    return frozenset(row["redis_epoch"] for row in rows)


def both_tell(deployment: Deployment) -> bool:
    telling = "SELECT count(*) FROM heartbeats WHERE redis_epoch IS NOT NULL"
    return bool(deployment.world.scalar(telling) == 2)


def told(metrics: str, name: str) -> float:
    """0 for what was never counted."""
    return next((float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(f"{name} ")), 0.0)
