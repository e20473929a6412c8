"""The page that signs people in, how a session is kept, and the door before every other page.

A session is a signed cookie (Flask's), so it holds in every web process and after a restart. Forms carry CSRF tokens
(Flask-WTF).
"""

from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, g, make_response, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect

from models.accounts.token_encryption import TokenCipher
from webhook.ops import access, frame
from webhook.ops.access import SESSION, Access, TooManyFailures

ENDPOINT = "ops.sign_in"
OPEN = (ENDPOINT, "ops.static")
"""What may be seen before one has signed in: the page and its style."""
WRONG = "Wrong name or password."
TOO_OFTEN = "Too many wrong passwords. Wait a minute, then try again."
OUTDATED = "This page was open for too long. Please try again."


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        """Where the browser came by HTTPS, as the proxy says; by HTTP a secure cookie would be thrown away."""
        return frame.address().startswith("https:")


def add_to(blueprint: Blueprint, cipher: TokenCipher, access_of: Access) -> None:
    @blueprint.record_once
    def set_up(state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        app.secret_key, *app.config["SECRET_KEY_FALLBACKS"] = cipher.session_keys
        app.config.update(
            SESSION_COOKIE_NAME="leadway_ops", SESSION_COOKIE_PATH="/ops/", SESSION_COOKIE_SAMESITE="Strict",
            SESSION_REFRESH_EACH_REQUEST=False, PERMANENT_SESSION_LIFETIME=SESSION, WTF_CSRF_SSL_STRICT=False,
        )  # fmt: skip
        app.session_interface = _Sessions()
        CSRFProtect(app)

    @blueprint.before_request
    def door() -> ResponseReturnValue | None:
        g.user = None
        if access_of.is_closed():
            return access.closed()
        try:
            g.user = access_of.of_request()
        except TooManyFailures:
            return _refused(TOO_OFTEN, HTTPStatus.TOO_MANY_REQUESTS)
        if g.user is not None or request.endpoint in OPEN:
            return None
        return _refused("", HTTPStatus.UNAUTHORIZED)

    @blueprint.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> ResponseReturnValue:
        if request.method == "GET":
            return _form("", HTTPStatus.OK)
        try:
            user = access_of.sign_in(request.form.get("name", ""), request.form.get("password", ""))
        except TooManyFailures:
            return _form(TOO_OFTEN, HTTPStatus.TOO_MANY_REQUESTS)
        if user is None:
            return _form(WRONG, HTTPStatus.UNAUTHORIZED)
        return redirect(_own_path(request.form.get("next", "")), HTTPStatus.SEE_OTHER)

    @blueprint.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        access_of.sign_out(g.user)
        return redirect(url_for(ENDPOINT), HTTPStatus.SEE_OTHER)

    @blueprint.errorhandler(CSRFError)
    def outdated(_: CSRFError) -> Response:
        return _form(OUTDATED, HTTPStatus.BAD_REQUEST)


def language_of_browser() -> str:
    return request.accept_languages.best_match(["en", "es"]) or "en"


def _refused(told: str, status: HTTPStatus) -> Response:
    """The form for whoever sees it; a program is asked for a name and a password."""
    if request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html":
        return _form(told, status)
    return access.challenge(told or "Sign in.", status)


def _form(told: str, status: HTTPStatus) -> Response:
    here = request.form.get("next") or (request.full_path if request.endpoint != ENDPOINT else request.args.get("next"))
    response = make_response(
        render_template("sign_in.html", told=told, next=_own_path(here or ""), language=language_of_browser()), status
    )
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = "60"
    return response


def _own_path(text: str) -> str:
    """A path of these pages; anything else leads to the first one."""
    parts = urlsplit(text)
    is_own = not (parts.scheme or parts.netloc) and parts.path.startswith("/ops/") and "\\" not in text
    return text.rstrip("?") if is_own else url_for("ops.calls")
