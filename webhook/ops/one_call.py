"""One call: what happened to it in order, what was said, what the agent did, and what became of its notes."""

from dataclasses import dataclass

from flask import Blueprint, make_response, render_template
from flask.typing import ResponseReturnValue

from models.accounts import accounts
from models.accounts.accounts import UnknownAccount
from models.calls import calls
from models.database import Database
from models.reports import overview, timeline
from models.reports.timeline import Timeline

REFRESH_SECONDS = 5
SPEAKERS = {"bot": "agent", "human": "caller"}


def add_to(blueprint: Blueprint, database: Database) -> None:
    @blueprint.get("/calls/<location_id>/<call_id>")
    def call(location_id: str, call_id: str) -> ResponseReturnValue:
        with database.reading() as connection:
            now = overview.now(connection)
            row = calls.get(connection, location_id, call_id)
            if row is None:
                return make_response(render_template("unknown_call.html", call_id=call_id), 404)
            told = timeline.of_call(connection, row)
            try:
                account = accounts.get(connection, location_id)
            except UnknownAccount:
                account = None
        at_work = row["next_attempt_at"] is not None or any(each["next_attempt_at"] for each in told.follow_ups)
        return render_template(
            "call.html",
            call=row,
            story=told,
            events=[(event.at, shortly(event.text, told)) for event in timeline.events(told)],
            turns=turns(row["transcript"] or ""),
            account=account,
            time_zone=account.time_zone if account else "UTC",
            now=now,
            refresh=REFRESH_SECONDS if at_work else None,
        )


def shortly(text: str, told: Timeline) -> str:
    """References by their beginning: whole they stand beside their follow-up."""
    for each in told.follow_ups:
        text = text.replace(each["follow_up_id"], f"{each['follow_up_id'][:8]}…")
    return text


@dataclass(frozen=True)
class Turn:
    """What one side said in one go. `speaker`: agent, caller, or empty where the transcript does not tell."""

    speaker: str
    words: str


def turns(transcript: str) -> list[Turn]:
    """A transcript has lines as `bot:…` and `human:…`; a line without either goes on with what was being said."""
    found: list[Turn] = []
    for line in transcript.splitlines():
        name, colon, words = line.partition(":")
        speaker = SPEAKERS.get(name.strip().lower()) if colon else None
        if speaker is not None:
            found.append(Turn(speaker, words.strip()))
        elif found:
            found[-1] = Turn(found[-1].speaker, f"{found[-1].words}\n{line}")
        elif line.strip():
            found.append(Turn("", line))
    return found
