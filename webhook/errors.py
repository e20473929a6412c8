"""Answers and logs the errors that no endpoint handles: an unknown path, a wrong method, a bug.

Flask itself would log the path of a request that failed, and a path may contain an intake secret.
"""

import structlog
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from models.intake.reasons import RETRY_AFTER_SECONDS, ReceiptStatus

log = structlog.get_logger(__name__)


def answer_for(app: Flask) -> None:
    """Registers the error handlers."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)


def _http_error(error: HTTPException) -> Response:
    """Answers with JSON where werkzeug would answer an error with HTML; redirects stay as they are."""
    response = error.get_response()
    if not isinstance(response, Response):
        response = Response(response.get_data(), response.status_code, response.headers)
    if (error.code or 500) >= 400 and response.mimetype == "text/html":
        response.set_data(jsonify(status=ReceiptStatus.REFUSED.value, detail=error.name).get_data())
        response.mimetype = "application/json"
    return response


def _bug(error: Exception) -> Response:
    """429 for a notification, never 5xx: the sender repeats a 429, and the bug may be fixed by then. 500 elsewhere."""
    log.error("request_broke", endpoint=request.endpoint, exc_info=error)
    response = jsonify(status=ReceiptStatus.REFUSED.value, detail="This is our fault; it was logged.")
    response.status_code = 429 if request.blueprint == "receiver" else 500
    if response.status_code == 429:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
