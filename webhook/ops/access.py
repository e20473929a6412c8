"""Opens the operators' pages to the user `ops` with OPS_PASSWORD, by HTTP basic authentication."""

import hmac

from flask import Response, request

from models.settings import Secret

USER = "ops"
CLOSED = (
    "These pages are closed, because no password is set. Set OPS_PASSWORD in the environment of the web process, "
    f"start it again, and sign in as the user `{USER}`.\n"
)
SIGN_IN_AGAIN = f"Sign in as the user `{USER}` with the password that OPS_PASSWORD holds.\n"


def refusal(password: Secret | None) -> Response | None:
    """The answer to a request that may not see a page: 403 without a configured password, else 401. None: it may."""
    if password is None:
        return Response(CLOSED, 403, content_type="text/plain; charset=utf-8")
    if _knows(password.get_secret_value()):
        return None
    challenge = {"WWW-Authenticate": 'Basic realm="leadway-calls", charset="UTF-8"'}
    return Response(SIGN_IN_AGAIN, 401, challenge, content_type="text/plain; charset=utf-8")


def _knows(password: str) -> bool:
    """Compares user and password always, in constant time, so that the time taken reveals nothing."""
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    is_user = hmac.compare_digest((given.username or "").encode(), USER.encode())
    is_password = hmac.compare_digest((given.password or "").encode(), password.encode())
    return is_user and is_password
