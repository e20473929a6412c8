"""Every reason not to accept a notification: its HTTP status, the answer's status, and one sentence for a person.

The enum is the only list of reasons: receiver, authentication, metrics, pages and commands use it.
"""

from enum import StrEnum
from typing import Self

RETRY_AFTER_SECONDS = 10
"""The `Retry-After` of each 429: a database that restarts is usually back by then."""


class ReceiptStatus(StrEnum):
    """The field `status` of the answer to the sender; the first four go with HTTP 202."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNRESOLVED = "unresolved"
    IGNORED = "ignored"
    REFUSED = "refused"


class Reason(StrEnum):
    """Why a notification was rejected, ignored or left unresolved. `sentence` is for whoever sets up the webhook."""

    http_status: int
    status: ReceiptStatus
    sentence: str

    # The defaults are never used. They let a type checker accept the lookup by value, Reason("not_json").
    def __new__(
        cls, value: str, http_status: int = 0, status: ReceiptStatus = ReceiptStatus.REFUSED, sentence: str = ""
    ) -> Self:
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.http_status = http_status
        reason.status = status
        reason.sentence = sentence
        return reason

    CREDENTIALS_MISSING = (
        "credentials_missing",
        401,
        ReceiptStatus.REFUSED,
        "It carries neither a signature nor an intake secret. Use the account's own URL or X-Intake-Secret.",
    )
    SIGNATURE_MALFORMED = (
        "signature_malformed",
        401,
        ReceiptStatus.REFUSED,
        "Its signature header is not base64 of the right length, so it was not written by Leadway.",
    )
    SIGNATURE_INVALID = (
        "signature_invalid",
        401,
        ReceiptStatus.REFUSED,
        "Its signature fits none of the public keys: forged, changed on the way, or Leadway has a new key.",
    )
    SIGNATURE_KEYS_NOT_CONFIGURED = (
        "signature_keys_not_configured",
        401,
        ReceiptStatus.REFUSED,
        "It is signed, but no public key of that kind is configured. See LEADWAY_WEBHOOK_PUBLIC_KEYS.",
    )
    INTAKE_SECRET_UNKNOWN = (
        "intake_secret_unknown",
        401,
        ReceiptStatus.REFUSED,
        "Its intake secret belongs to no account: mistyped, or replaced by a newer one.",
    )
    WRONG_ACCOUNT = (
        "wrong_account",
        401,
        ReceiptStatus.REFUSED,
        "Its intake secret belongs to one account and its body names another.",
    )
    TOO_LARGE = ("too_large", 413, ReceiptStatus.REFUSED, "Its body is larger than 256 KiB.")
    CANNOT_WRITE_DOWN = (
        "cannot_write_down",
        429,
        ReceiptStatus.REFUSED,
        "The database could not be reached or written to; the sender was asked to repeat it.",
    )
    CANNOT_LOOK_UP = (
        "cannot_look_up",
        429,
        ReceiptStatus.REFUSED,
        "Its intake secret is not known yet, and the database could not be asked; the sender was asked to repeat it.",
    )

    EVENT_TYPE_NOT_WANTED = (
        "event_type_not_wanted",
        202,
        ReceiptStatus.IGNORED,
        "It tells of something other than a finished call. VoiceAiCallEnd is wanted, or any body that names a call id.",
    )
    LOCATION_NOT_SERVED = (
        "location_not_served",
        202,
        ReceiptStatus.IGNORED,
        "Leadway signed it, but its location is no account here.",
    )
    LOCATION_MISSING = (
        "location_missing",
        202,
        ReceiptStatus.IGNORED,
        "Leadway signed it, but it names no location, so no account can be found for it.",
    )
    NOT_UTF8 = ("not_utf8", 202, ReceiptStatus.IGNORED, "Its body is no text that can be read. Send JSON in UTF-8.")
    NOT_JSON = (
        "not_json",
        202,
        ReceiptStatus.IGNORED,
        "Its body is neither JSON nor a form. Set the webhook's content type to JSON.",
    )
    BROKEN_JSON = (
        "broken_json",
        202,
        ReceiptStatus.UNRESOLVED,
        "Its body begins like JSON but is broken, most likely by quotes in a merge tag's text, and no call id was "
        'found in it. Send only the ids, such as {"contactId": "…"}, or escape the text. '
        "The call is looked for by contact, number and time.",
    )
    NOT_AN_OBJECT = (
        "not_an_object",
        202,
        ReceiptStatus.IGNORED,
        "Its body is JSON, but not an object with named fields.",
    )
    DUPLICATE_KEYS = ("duplicate_keys", 202, ReceiptStatus.IGNORED, "Its body names the same field twice.")
    TOO_DEEP = ("too_deep", 202, ReceiptStatus.IGNORED, "Its body is nested too deeply.")
    NUMBER_OUT_OF_RANGE = (
        "number_out_of_range",
        202,
        ReceiptStatus.IGNORED,
        "Its body holds a number that is not finite or too large.",
    )

    UNRESOLVED_MERGE_TAG = (
        "unresolved_merge_tag",
        202,
        ReceiptStatus.UNRESOLVED,
        "A merge tag ({{…}}) stands where the call id belongs: the workflow's trigger does not offer that value. "
        "Leave the call id out: the call is found by its contact.",
    )
    CALL_ID_UNUSABLE = (
        "call_id_unusable",
        202,
        ReceiptStatus.UNRESOLVED,
        "What stands where the call id belongs is no call id. Leave it out: the call is found by its contact.",
    )
    SEVERAL_CALL_IDS = (
        "several_call_ids",
        202,
        ReceiptStatus.UNRESOLVED,
        "It names several calls. Send one notification for each; these are looked for in Leadway's list.",
    )
    CALL_ID_MISSING = (
        "call_id_missing",
        202,
        ReceiptStatus.UNRESOLVED,
        "It holds no call id. The call is looked for by contact, number and time, as far as the body tells them.",
    )


def sentence_of(reason: str) -> str:
    """The sentence for a person; of a reason that is not (or no longer) one of ours, its name."""
    if reason in _OF_WORKERS:
        return _OF_WORKERS[reason]
    try:
        return Reason(reason).sentence
    except ValueError:
        return f"{reason.replace('_', ' ').capitalize()}."


_OF_WORKERS = {
    "call_id_of_another_kind": (
        "What stands where the call id belongs is the id of something else, such as the telephone company's call_sid. "
        "Leave it out: the call is found by its contact."
    ),
    "too_many_unknown_calls": (
        "Leadway signed it, but too many such events of this account named calls that Leadway itself does not know. "
        "Until a day has passed, those are only counted; real calls come by Leadway's list."
    ),
}
"""What only a worker finds out, when it takes in or asks Leadway."""
