"""The job of the worker's peers: fetch a call log, store it and its actions with SQLAlchemy Core.

No claim, no fence, no budget, no note: what is lost on the way is lost.
"""

import os
from functools import cache
from typing import Any

import requests
import sqlalchemy as sa
from requests.adapters import HTTPAdapter
from sqlalchemy.dialects.postgresql import JSONB, insert

THREADS = 32
metadata = sa.MetaData()
calls = sa.Table(
    "peer_calls", metadata,
    sa.Column("call_id", sa.Text, primary_key=True), sa.Column("summary", sa.Text), sa.Column("transcript", sa.Text),
    sa.Column("duration", sa.Integer), sa.Column("document", JSONB),
)  # fmt: skip
actions = sa.Table(
    "peer_actions", metadata,
    sa.Column("call_id", sa.Text, primary_key=True), sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("action_type", sa.Text), sa.Column("parameters", JSONB),
)  # fmt: skip
_UPSERT = insert(calls)
_UPSERT = _UPSERT.on_conflict_do_update(
    index_elements=["call_id"], set_={name: _UPSERT.excluded[name] for name in ("summary", "transcript", "document")}
)
_ADD = insert(actions).on_conflict_do_nothing()


@cache
def engine() -> sa.Engine:
    return sa.create_engine(os.environ["PEER_DATABASE_URL"], pool_size=THREADS)


@cache
def session() -> requests.Session:
    opened = requests.Session()
    opened.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
    return opened


def fetch_and_store(call_id: str) -> None:
    answer = session().get(
        f"{os.environ['PEER_API_URL']}/voice-ai/dashboard/call-logs/{call_id}",
        params={"locationId": "location"}, headers={"Authorization": "Bearer token", "Version": "2021-07-28"},
        timeout=10,
    )  # fmt: skip
    answer.raise_for_status()
    log: dict[str, Any] = answer.json()
    rows = [
        {
            "call_id": call_id,
            "position": number,
            "action_type": each["actionType"],
            "parameters": each["actionParameters"],
        }
        for number, each in enumerate(log["executedCallActions"])
    ]
    call = {name: log[name] for name in ("summary", "transcript", "duration")}
    with engine().begin() as connection:
        connection.execute(_UPSERT, {"call_id": call_id, **call, "document": log})
        if rows:
            connection.execute(_ADD, rows)
