"""Holds the double to the contract, and with `-m live` a real account to its reading half."""

import os
from collections.abc import Iterator

import pytest

from tests.contract.assertions import READING, WRITING, Account, Promise
from tests.contract.facts import ENDPOINTS, PARAMETERS
from tests.leadway_double import routes
from tests.leadway_double.double import LeadwayDouble


@pytest.fixture(scope="module")
def double() -> Iterator[LeadwayDouble]:
    with LeadwayDouble() as running:
        running.set_rate_limit(per_window=None)
        running.place_calls(30, over=86400)
        for trial in (True, False):
            running.place_call(actions=list(PARAMETERS), contact=True, trial=trial, booked=True, action_ids="missing")
        yield running


@pytest.fixture
def account(double: LeadwayDouble) -> Account:
    return Account(double.url, double.token, double.location_id)


@pytest.mark.parametrize("promise", [*READING, *WRITING], ids=lambda promise: promise.__name__)
def test_the_double_keeps_the_promise(account: Account, promise: Promise) -> None:
    promise(account)


@pytest.mark.parametrize("envelope", ["total", "totalRecords"])
def test_both_envelopes_of_the_list_are_within_the_contract(double: LeadwayDouble, envelope: str) -> None:
    double.set_envelope(envelope)
    READING[0](Account(double.url, double.token, double.location_id))
    double.set_envelope("total")


def test_the_double_serves_every_endpoint_of_the_contract_and_no_other() -> None:
    table = [route for group in routes.table(lambda *_: None).values() for route in group]
    served = {(route.kind, route.method, route.template, route.scope) for route in table}
    assert served == {(one.kind, one.method, one.path, one.scope) for one in ENDPOINTS.values()}


@pytest.mark.live
@pytest.mark.parametrize("promise", READING, ids=lambda promise: promise.__name__)
def test_the_live_account_keeps_the_promise(promise: Promise) -> None:
    url, token, location = (os.environ[f"LEADWAY_CONTRACT_{name}"] for name in ("URL", "TOKEN", "LOCATION"))
    promise(Account(url.rstrip("/"), token, location, live=True))
