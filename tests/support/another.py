"""A second process of the same line of the Procfile, beside the one that a stage keeps running."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.crash.stage import Stage
from tests.support.waiting import eventually


@contextmanager
def another(stage: Stage, line: str, *, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Runs as the process `<line>-2`; gives the name under which its heart beats and its leases are held."""
    before = _alive(stage, line)
    stage.world.processes.start(line, name=f"{line}-2", environment=environment)
    try:
        yield eventually(lambda: _alive(stage, line) - before, timeout=30, describe=f"another {line}").pop()
    finally:
        stage.world.processes.stop(f"{line}-2")


def _alive(stage: Stage, line: str) -> set[str]:
    return {row["name"] for row in stage.world.rows("SELECT name FROM heartbeats WHERE process = :line", line=line)}
