"""Who is asking: by a session that began on the sign-in page, or as `ops` by HTTP basic authentication.

Wrong passwords are counted by address and by name, in this process' memory, because Redis may be down.
"""

import hmac
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

import structlog
from flask import Response, request, session
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.accounts.token_encryption import TokenCipher
from models.database import Database
from models.reports import users
from models.reports.users import USER_OF_THE_ENVIRONMENT, Role, User
from models.settings import Secret
from webhook.deadline import DeadlinePool
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

SESSION = timedelta(hours=12)
"""A session ends that long after it began, whatever is done meanwhile."""
FAILURES_OF_AN_ADDRESS = RateLimitItemPerMinute(10)
FAILURES_OF_A_NAME = RateLimitItemPerMinute(60, 10)
"""From all addresses: whoever knows a name can keep its owner out, so it is more than a person needs."""
CLOSED = (
    "These pages are closed, because no password is set. Set OPS_PASSWORD in the environment of the web process, start "
    f"it again, and sign in as the user `{USER_OF_THE_ENVIRONMENT}`; or add a user: `leadway-calls users add`.\n"
)
OUTCOMES = ("signed_in", "failed", "refused")
OPS = User(USER_OF_THE_ENVIRONMENT, Role.OPERATOR)


class TooManyFailures(Exception):
    """This address or name has failed too often; nothing was compared."""


class Access:
    """Of one process. `pool`: where the database is asked, with a deadline."""

    def __init__(self, database: Database, password: Secret | None, *, cipher: TokenCipher, pool: DeadlinePool) -> None:
        self._database, self._password, self._pool = database, password, pool
        self._fingerprint_key = cipher.fingerprint_key
        self._failures = MovingWindowRateLimiter(MemoryStorage())
        for outcome in OUTCOMES:
            metrics.SIGN_INS.labels(outcome)  # at 0: a series that is born at 1 shows no increase

    def is_closed(self) -> bool:
        """Whether nobody could sign in. Raises SQLAlchemyError, TimeoutError."""
        return self._password is None and not self._read(users.every)

    def of_request(self) -> User | None:
        """Who asks; None: somebody who has not signed in. Raises TooManyFailures, SQLAlchemyError, TimeoutError."""
        given = request.authorization
        if given is not None and given.type == "basic":
            name, password = given.username or "", given.password or ""
            return self._limited(name, lambda: self._of_the_environment(name, password))
        return self._of_session()

    def sign_in(self, name: str, password: str) -> User | None:
        """Begins a session; None: wrong name or password. Raises as `of_request`."""
        user = self._limited(name, lambda: self._of_the_environment(name, password) or self._of_table(name, password))
        if user is not None:
            metrics.SIGN_INS.labels("signed_in").inc()
            self._write(partial(users.write_audit, by=user, what="signed_in"))
            session.clear()  # what somebody else may have put there
            session.permanent = True
            session.update(user=user.name, key=self._known(user.name)[1])
        return user

    def sign_out(self, user: User) -> None:
        self._write(partial(users.write_audit, by=user, what="signed_out"))
        session.clear()

    def write_call_opened(self, user: User, location_id: str, call_id: str) -> None:
        """Into the log, while the database takes no audit: a replica shows the call when the primary is away."""
        try:
            self._write(partial(users.write_call_opened, by=user, location_id=location_id, call_id=call_id))
        except (SQLAlchemyError, TimeoutError) as error:
            facts = {"by_user": user.name, "location_id": location_id, "call_id": call_id}
            log.warning("call_opened_without_audit", **facts, error=type(error).__name__)

    def _of_session(self) -> User | None:
        name = session.get("user")
        if name is None:
            return None
        user, fingerprint = self._known(name)
        return user if hmac.compare_digest(fingerprint, str(session.get("key"))) else None

    def _known(self, name: str) -> tuple[User | None, str]:
        """Who has this name, and the fingerprint of the password: another password ends all sessions. It is keyed,
        because whoever holds a cookie can read it."""
        if name == OPS.name and self._password is not None:
            user, secret = OPS, self._password.get_secret_value()
        elif (login := self._read(lambda connection: users.get(connection, name))) is not None:
            user, secret = login.user, login.password_hash
        else:
            return None, ""
        return user, hmac.new(self._fingerprint_key, f"{name} {secret}".encode(), "sha256").hexdigest()[:32]

    def _limited(self, name: str, check: Callable[[], User | None]) -> User | None:
        address = request.remote_addr or ""
        limits = ((FAILURES_OF_AN_ADDRESS, address), (FAILURES_OF_A_NAME, f"name {name}"))
        facts = {"address": address, "is_ops": name == OPS.name}  # no other name: passwords get into the wrong field
        if not all(self._failures.test(limit, key) for limit, key in limits):
            metrics.SIGN_INS.labels("refused").inc()
            log.warning("sign_in_refused", **facts)
            raise TooManyFailures
        user = check()
        if user is None:
            for limit, key in limits:
                self._failures.hit(limit, key)
            metrics.SIGN_INS.labels("failed").inc()
            log.warning("sign_in_failed", **facts)
        return user

    def _of_the_environment(self, name: str, password: str) -> User | None:
        """Compares name and password always, in constant time, so that the time taken reveals nothing."""
        expected = self._password.get_secret_value() if self._password else ""
        is_name = hmac.compare_digest(name.encode(), OPS.name.encode())
        is_password = hmac.compare_digest(password.encode(), expected.encode())
        return OPS if self._password and is_name and is_password else None

    def _of_table(self, name: str, password: str) -> User | None:
        login = self._read(lambda connection: users.get(connection, name))
        if login is None:
            users.check_for_nobody(password)
            return None
        return login.user if login.has_password(password) else None

    def _read(self, question: Callable[[Connection], T]) -> T:
        def ask() -> T:
            with self._database.reading() as connection:
                return question(connection)

        return self._pool.run(ask)

    def _write(self, write: Callable[[Connection], None]) -> None:
        def write_in_transaction() -> None:
            with self._database.transaction() as connection:
                write(connection)

        self._pool.run(write_in_transaction)


def closed() -> Response:
    return Response(CLOSED, 403, content_type="text/plain; charset=utf-8")


def challenge(text: str, status: int) -> Response:
    """For programs: a browser that wants HTML gets the sign-in page."""
    headers = {"WWW-Authenticate": 'Basic realm="leadway-calls", charset="UTF-8"'} if status == 401 else {}
    return Response(text, status, headers, content_type="text/plain; charset=utf-8")
