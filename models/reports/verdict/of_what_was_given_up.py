"""The rules about what was given up, set aside or refused, and what only a person can settle."""

from collections.abc import Callable
from datetime import timedelta

from models.calls.calls import CALL
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState
from models.intake import rejection_counts
from models.reports.verdict.evidence import Evidence
from models.reports.verdict.findings import Around
from models.reports.verdict.rule import Trouble, Troubles, ago
from models.reports.wording import count, some
from models.work.work_rows import POISON, WorkStatus

UNCLEAR_LONG = timedelta(hours=1)
"""A write is looked for twice within the settle window, two minutes, and sent again."""


def notification_quarantined(evidence: Evidence, _: Around) -> Troubles:
    if evidence.quarantined:
        yield Trouble(
            f"the database refused {count(evidence.quarantined, 'notification')} in the last day",
            "look into its table quarantine. The calls are found in Leadway's list",
        )


def row_quarantined(evidence: Evidence, _: Around) -> Troubles:
    for location_id in evidence.accounts:
        if found := evidence.refused_rows.get(location_id):
            yield Trouble(
                f"{count(sum(found.values()), 'listed row')} could not be taken in ({', '.join(found)})",
                "table quarantined_rows tells when; ask Leadway's support about the calls of that time",
                location_id,
            )


def dead(work: str) -> Callable[[Evidence, Around], Troubles]:
    noun, do = _GIVEN_UP[work]

    def judge(evidence: Evidence, _: Around) -> Troubles:
        dead = [each for each in evidence.served_groups if (each.work, each.status) == (work, WorkStatus.DEAD)]
        for location_id, cause in sorted({(each.location_id, each.cause or "unknown") for each in dead}):
            same = [each for each in dead if (each.location_id, each.cause or "unknown") == (location_id, cause)]
            number = sum(each.number for each in same)
            ids = some(evidence.ids[location_id, work, WorkStatus.DEAD, same[0].cause], number)
            poison = " Each attempt ended its worker process." if cause == POISON else ""
            yield Trouble(f"{count(number, f'dead {noun}')} ({cause}): {ids}.{poison}".rstrip("."), do, location_id)

    return judge


_GIVEN_UP = {
    CALL.name: (
        "call", "`leadway-calls call ID` tells why; `leadway-calls replay call --dead` fetches them again"
    ),
    FOLLOW_UP.name: ("follow-up", "`leadway-calls follow-up ID` tells why and what to do"),
}  # fmt: skip


def for_a_person(evidence: Evidence, _: Around) -> Troubles:
    for group in evidence.served_groups:
        if group.for_a_person:
            ids = some(evidence.ids[group.location_id, group.work, group.status, group.cause], group.number)
            yield Trouble(
                f"{count(group.number, 'unclear follow-up')} that only a person can settle"
                f" ({group.cause or 'cause unknown'}): {ids}",
                "look into the CRM; `leadway-calls follow-up ID` says how to settle it",
                group.location_id,
            )


def unclear_long(evidence: Evidence, _: Around) -> Troubles:
    for group in evidence.served_groups:
        is_unclear = group.status == FollowUpState.UNCLEAR and not group.for_a_person
        if is_unclear and evidence.at - group.since > UNCLEAR_LONG and evidence.goes_on(group):
            yield Trouble(
                f"{count(group.number, 'follow-up')} unclear, the oldest for {ago(evidence, group.since)}",
                "look into the CRM, then `leadway-calls follow-up ID --is-there` or `--send-again`",
                group.location_id,
            )


def refused(evidence: Evidence, _: Around) -> Troubles:
    counts = [each for each in evidence.rejections if each.reason not in rejection_counts.IGNORED]
    for reason in sorted({each.reason for each in counts}):
        of_it = [each for each in counts if each.reason == reason]
        yield Trouble(
            f"{count(sum(each.number for each in of_it), 'notification')} refused today for {reason}, the last at"
            f" {max(each.last_at for each in of_it):%H:%M} UTC",
            REFUSALS.get(reason, "look at the setup page under /ops/"),
        )


REFUSALS = {
    "credentials_missing": "use the account's own URL, or add the header X-Intake-Secret",
    "intake_secret_unknown": "paste the present URL or secret: `leadway-calls accounts rotate-secret` makes a new one",
    "wrong_account": "the workflow of one location uses another one's URL: give each its own",
    "signature_invalid": "look whether LEADWAY_WEBHOOK_PUBLIC_KEYS is the vendor's present key, or leave it unset",
    "signature_keys_not_configured": "name its key in LEADWAY_WEBHOOK_PUBLIC_KEYS; built in is only the Ed25519 one",
    "cannot_write_down": "the database was away; Leadway repeats these notifications",
    "too_many_unknown_calls": "ask the vendor who signs for calls that do not exist; real calls come by the list",
}
