"""A running system with calls in it, and a Chromium that opens its pages."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.waiting import eventually
from tests.support.world import World

PASSWORD = "a-password-of-this-test"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path is not None, "these tests drive a browser: install Debian's package chromium, or set CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def world(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[World]:
    """Four calls with their notes, and one whose note was given up."""
    with World(tmp_path, database_url=database_url, redis_url=redis_url, settings={"OPS_PASSWORD": PASSWORD}) as world:
        world.start("web", "worker", "beat")
        gone = json.dumps({"statusCode": 404, "message": "Contact not found"})
        world.double.fault("create_note", "status", status=404, body=gone, times=1)
        for number in range(5):
            kinds = ["CALL_TRANSFER", "APPOINTMENT_BOOKING"][: 1 + number % 2]
            assert world.double.notify(world.double.place_call(actions=kinds, contact=True)).accepted
        ended = "SELECT count(*) FROM follow_ups WHERE status IN ('done', 'dead')"
        eventually(lambda: world.scalar(ended) == 7, timeout=60, describe="the notes to be written or given up")
        yield world


def sign_in(page: Page, root: str) -> None:
    page.goto(f"{root}/ops/")
    page.get_by_label("Name").fill("ops")
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form button").click()
    page.wait_for_url(f"{root}/ops/")
