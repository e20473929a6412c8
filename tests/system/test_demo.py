"""`make demo`, as a process: it shows a call with its note, and leaves nothing behind."""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.processes import Processes
from tests.support.waiting import eventually
from workers.local.embedded_redis import free_port

JOURNEY = (
    r"call \w{6}… received \(\w+, (signed|secret)\) → fetched in \d+ ms → stored: \d actions? → note written [\d.]+ s"
)


@pytest.mark.timeout(180)
def test_the_demo_shows_a_call_with_its_note_and_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    with Processes(tmp_path, {}) as processes:
        processes.run(["python", "-m", "tests.demo", "--calls-every", "0.5", "--port", str(free_port())], name="demo")
        processes.wait_for_log("demo", "ctrl-C", timeout=90)
        address, password = re.findall(r"(http://\S+/ops/)\s+user: ops\s+password: (\S+)", processes.log("demo"))[0]
        eventually(
            lambda: "<b>note</b> written" in requests.get(address, auth=("ops", password), timeout=5).text,
            timeout=60,
            describe=lambda: f"a note on the page; the demo said:\n{processes.log('demo')}",
        )
        eventually(lambda: re.search(JOURNEY, processes.log("demo")), describe=lambda: processes.log("demo"))
        assert len(_started_from(tmp_path)) > 5, "the demo runs as several processes"

        os.killpg(processes.pid("demo"), signal.SIGINT)

        eventually(lambda: not processes.is_running("demo"), timeout=45, describe=lambda: processes.log("demo"))
        assert processes.stop("demo") == 0, processes.log("demo")
        assert _started_from(tmp_path) == []
    told = processes.log("demo")
    assert "nothing is left running" in told
    assert "started again" not in told, "no process died"
    assert not re.search(r"\+\d{6}", told), "no caller's number"


def _started_from(folder: Path) -> list[str]:
    """Whatever was started by a process whose home is this folder, in whichever group or session it runs now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(folder):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found
