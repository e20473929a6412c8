"""The page of one call: its timeline, transcript, the agent's actions, and its follow-ups."""

from dataclasses import dataclass

from flask import Blueprint, g, make_response, render_template
from flask.typing import ResponseReturnValue

from models.accounts import accounts
from models.accounts.accounts import UnknownAccount
from models.database import Database, now
from models.reports import timeline
from models.reports.timeline import Timeline
from webhook.ops.access import Access
from webhook.ops.frame import REFRESH_SECONDS

SPEAKERS = {"bot": "agent", "human": "caller"}


def add_to(blueprint: Blueprint, database: Database, access: Access) -> None:
    @blueprint.get("/calls/<location_id>/<call_id>")
    def call(location_id: str, call_id: str) -> ResponseReturnValue:
        with database.reading() as connection:
            at = now(connection)
            known = timeline.known_call(connection, location_id, call_id)
            if known is None:
                return make_response(render_template("unknown_call.html", call_id=call_id), 404)
            found = timeline.of_call(connection, known)
            try:
                account = accounts.get(connection, location_id)
            except UnknownAccount:
                account = None
        access.write_call_opened(g.user, location_id, call_id)
        is_open = any(each.due_at is not None for each in (known, *found.follow_ups))
        log = known.stored
        return render_template(
            "call.html",
            call=known,
            log=log,
            timeline=found,
            events=[(event.at, shortened(event.text, found)) for event in timeline.events(found)],
            turns=turns(log.transcript or "" if log else ""),
            account=account,
            time_zone=account.time_zone if account else "UTC",
            now=at,
            refresh=REFRESH_SECONDS if is_open else None,
        )


def shortened(text: str, of_call: Timeline) -> str:
    """`text` with 8 characters of each follow-up's reference: the whole one stands beside the follow-up."""
    for each in of_call.follow_ups:
        reference = each.follow_up.follow_up_id
        text = text.replace(reference, f"{reference[:8]}…")
    return text


@dataclass(frozen=True)
class Turn:
    """What one side said before the other spoke. `speaker`: agent, caller, or empty if the transcript does not say."""

    speaker: str
    words: str


def turns(transcript: str) -> list[Turn]:
    """Splits a transcript into turns: lines begin with `bot:` or `human:`; any other line continues the turn before."""
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
