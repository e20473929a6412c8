"""The page of the audit, for operators: who signed in, opened which call, and did what."""

from http import HTTPStatus

from flask import Blueprint, abort, g, render_template, request, url_for

from models.database import Database
from models.reports import users

ROWS = 100


def add_to(blueprint: Blueprint, database: Database) -> None:
    @blueprint.get("/audit")
    def audit() -> str:
        if not g.user.may_act:
            abort(HTTPStatus.FORBIDDEN)
        by_user = request.args.get("user") or None
        before = request.args.get("before", type=int)
        with database.reading() as connection:
            found = users.audited(connection, limit=ROWS + 1, by_user=by_user, before=before)
        more = len(found) > ROWS
        return render_template(
            "audit.html",
            rows=found[:ROWS],
            by_user=by_user,
            first_page=url_for("ops.audit", user=by_user) if before else None,
            next_page=url_for("ops.audit", user=by_user, before=found[ROWS - 1].audit_id) if more else None,
        )
