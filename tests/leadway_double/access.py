"""The door: Version header, bearer token, scope, location; refusals worded as they were seen live."""

from collections.abc import Mapping

from tests.leadway_double.answers import NOT_THIS_LOCATION, Answer, error
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import Token
from tests.leadway_double.wire import Request

VERSIONS = frozenset({"v3", "2023-02-21", "2021-07-28", "2021-04-15", "legacy"})


def token_of(memory: Memory, request: Request) -> Token | None:
    """The token the request carries, if it is known; a revoked one still tells whose request it is."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return memory.tokens.get(value.strip()) if scheme.lower() == "bearer" else None


def refusal(memory: Memory, request: Request, token: Token | None, *, scope: str) -> Answer | None:
    """Why the request may not go on, or None."""
    version = request.headers.get("version")
    if not version:
        return error(401, "version header was not found.")
    if version not in VERSIONS:
        return error(401, "version header is invalid")
    if "authorization" not in request.headers:
        return error(401, "Invalid token: access token is invalid")
    if token is None or token.revoked:
        return error(401, "Invalid Private Integration token")
    if token.expires_at is not None and token.expires_at <= memory.now():
        return error(401, "Invalid token: access token is invalid")
    if scope not in token.scopes:
        return error(401, "The token is not authorized for this scope.")
    return None


def wrong_location(memory: Memory, token: Token, *, query: Mapping[str, str], ids: Mapping[str, str]) -> Answer | None:
    """403 for another location's contact or appointment, or for a `locationId` other than the token's."""
    owner = query.get("locationId", token.location_id)
    if contact := memory.contacts.get(ids.get("contactId", "")):
        owner = contact.location_id
    if appointment := memory.appointments.get(ids.get("eventId", "")):
        owner = appointment.location_id
    return None if owner == token.location_id else error(403, NOT_THIS_LOCATION)
