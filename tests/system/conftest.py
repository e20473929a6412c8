"""Running systems for tests that break things: one for each database, shared by all tests of this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.stage import Stage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side: these go first, for they are long, and wait while the others compute."""
    items.sort(key=lambda item: HERE not in item.path.parents)


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """Starts a stage when it is first asked for: that takes seconds."""
    with ExitStack() as stack:
        started: dict[str, Stage] = {}

        def stage_on(database: str) -> Stage:
            if database not in started:
                started[database] = stack.enter_context(Stage(tmp_path_factory.mktemp("stage") / database, database))
            return started[database]

        yield stage_on


@pytest.fixture
def stage_on_sqlite(stages: Callable[[str], Stage]) -> Iterator[Stage]:
    yield from _whole(stages("sqlite"))


@pytest.fixture
def stage_on_postgresql(stages: Callable[[str], Stage]) -> Iterator[Stage]:
    yield from _whole(stages("postgresql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, stages: Callable[[str], Stage]) -> Iterator[Stage]:
    yield from _whole(stages(request.param))


def _whole(stage: Stage) -> Iterator[Stage]:
    """Whatever the test before broke is whole again: a call goes all its way. What this one breaks is mended too."""
    stage.world.wait_for_web()
    call = stage.world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    assert stage.world.double.notify(call).accepted
    stage.wait_for_peace([call])
    yield stage
    stage.world.double.clear_faults()
    stage.redis.start()
    if stage.postgres is not None and stage.postgres.process is not None and stage.postgres.process.poll() is not None:
        stage.postgres.start()
