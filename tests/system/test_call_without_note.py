"""A customer says that a call has no note: from the caller's number to the written note, in the browser and at the
terminal."""

import json
import re
from pathlib import Path

import requests

from tests.support.waiting import eventually
from tests.support.world import World

PASSWORD = "a-password-of-this-test"
HTML = {"Accept": "text/html"}


def token_in(page: requests.Response) -> str:
    [token] = re.findall(r'name="csrf_token" value="([^"]+)"', page.text)[:1]
    return str(token)


def test_whoever_is_told_that_a_note_is_missing_finds_the_call_by_its_number_reads_the_cause_and_sends_again(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = {"OPS_PASSWORD": PASSWORD}
    with World(tmp_path, database_url=database_url, redis_url=redis_url, settings=settings) as world:
        world.start("web", "worker")
        gone = json.dumps({"statusCode": 404, "message": "Contact not found"})
        world.double.fault("create_note", "status", status=404, body=gone, times=1)
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        dead = "SELECT count(*) FROM follow_ups WHERE status = 'dead'"
        eventually(lambda: world.scalar(dead) == 1, timeout=60, describe="the note to be given up")
        [row] = world.rows("SELECT from_number FROM calls")

        with requests.Session() as browser:
            browser.headers.update(HTML)
            root = f"http://127.0.0.1:{world.port}"
            form = browser.get(f"{root}/ops/?find={row['from_number'].replace('+', '%2B')}")
            assert form.status_code == 401
            [wanted] = re.findall(r'name="next" value="([^"]*)"', form.text)
            data = {"name": "ops", "password": PASSWORD, "next": wanted, "csrf_token": token_in(form)}
            page = browser.post(f"{root}/ops/sign-in", data=data)
            assert page.url.endswith(f"/{call.call_id}"), "the one call of this number is shown"
            assert "contact_unknown" in page.text, "the cause"
            [path] = re.findall(r'href="([^"]+/send)"', page.text)
            told = browser.get(root + path)
            assert "nothing is written twice" in told.text
            page = browser.post(root + path, data={"csrf_token": token_in(told)})
            assert "It is tried again now." in page.text

            eventually(lambda: len(world.double.truth.notes()) == 1, timeout=30, describe="the note to be written")
            done = "SELECT count(*) FROM follow_ups WHERE status = 'done'"
            eventually(lambda: world.scalar(done) == 1, timeout=30)
            assert "written" in browser.get(page.url).text
        acts = world.rows("SELECT by_user, what FROM audit ORDER BY audit_id")
        assert [each["what"] for each in acts if each["what"] != "call_opened"] == ["signed_in", "send"]


def test_at_the_terminal_commands_alone_lead_from_the_number_to_the_written_note(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.start("web", "worker")
        gone = json.dumps({"statusCode": 404, "message": "Contact not found"})
        world.double.fault("create_note", "status", status=404, body=gone, times=1)
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        dead = "SELECT count(*) FROM follow_ups WHERE status = 'dead'"
        eventually(lambda: world.scalar(dead) == 1, timeout=60, describe="the note to be given up")
        [row] = world.rows("SELECT from_number, summary FROM calls")

        listed = world.command("calls", "search", row["from_number"], name="search")
        assert call.call_id in listed
        assert "note dead: contact_unknown" in listed
        assert row["from_number"] not in listed
        shown = world.command("calls", "show", call.call_id, name="show")
        for step in ("notification accepted", "log stored", "planned", "contact_unknown, HTTP 404, "):
            assert step in shown
        assert "Leadway does not know the contact" in shown, "the cause in words"
        assert row["summary"] not in shown
        sent = world.command("replay", "send", call.call_id, name="send")
        assert "is tried again now." in sent

        eventually(lambda: len(world.double.truth.notes()) == 1, timeout=30, describe="the note to be written")
        done = "SELECT count(*) FROM follow_ups WHERE status = 'done'"
        eventually(lambda: world.scalar(done) == 1, timeout=30)
        assert "done, note " in world.command("calls", "show", call.call_id, name="show-again")
