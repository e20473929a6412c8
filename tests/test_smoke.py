import pytest
from tests.support.worker import *
from tests.support import rows

def test_a_call_is_stored_and_its_note_written(at_work):
    call = at_work.double.place_call(language="en", contact=True, actions=["CALL_TRANSFER"])
    at_work.announce(call)
    row = at_work.fetch(call)
    assert row.status == "complete", (row.status, row.last_error)
    [f] = at_work.follow_ups_of(call)
    got = at_work.send(f.follow_up_id)
    assert got.status == "done", (got.status, got.last_error)
    assert len(at_work.notes(f.follow_up_id)) == 1
    assert at_work.rows("work") == []

def test_reconcile(at_work):
    was_served_since(at_work, 3600)
    calls = [at_work.double.place_call(language="en", contact=True, actions=["CALL_TRANSFER"]) for _ in range(3)]
    [w] = reconcile(at_work)
    assert w["listed"] == 3, w
    assert at_work.call(calls[0]).status == "complete"
