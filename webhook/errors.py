"""What is answered, and logged, when nothing else answers: an unknown path, a wrong method, a bug.

Flask itself would log the path of a request that failed, and ours may hold an intake secret.
"""

import structlog
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from webhook.rejections import RETRY_AFTER_SECONDS, ReceiptStatus

log = structlog.get_logger(__name__)


def answer_for(app: Flask) -> None:
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _broken)


def _refused(error: HTTPException) -> Response:
    """Redirects and the browser's challenges stay as they are; the rest is told as JSON, like all other refusals."""
    response = error.get_response()
    if not isinstance(response, Response):
        response = Response(response.get_data(), response.status_code, response.headers)
    if (error.code or 500) >= 400 and response.mimetype == "text/html":
        response.set_data(jsonify(status=ReceiptStatus.REFUSED.value, detail=error.name).get_data())
        response.mimetype = "application/json"
    return response


def _broken(error: Exception) -> Response:
    """429 where a notification comes in: the sender repeats it, and by then the bug may be mended. Never 5xx there."""
    log.error("request_broke", endpoint=request.endpoint, exc_info=error)
    response = jsonify(status=ReceiptStatus.REFUSED.value, detail="This is our fault; it was logged.")
    response.status_code = 429 if request.blueprint == "receiver" else 500
    if response.status_code == 429:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
