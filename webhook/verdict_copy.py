"""The verdict as this web process sees it, for pages, `/readyz?verbose` and metrics: one copy, at most a second old."""

from sqlalchemy.exc import SQLAlchemyError

from migrations import is_current
from models.database import Database
from models.intake import journal
from models.reports.verdict import judging
from models.reports.verdict.findings import Around, SystemVerdict
from models.settings import Settings
from webhook.copies import CopyOf
from webhook.deadline import DeadlinePool
from workers.process import redis_look

LIMIT_SECONDS = 1.0
"""For the database's answers: a hanging database must not occupy the threads that ask."""


def verdict_copy(database: Database, settings: Settings) -> CopyOf[SystemVerdict]:
    pool = DeadlinePool(2, seconds=LIMIT_SECONDS, name="verdict")

    def judge() -> SystemVerdict:
        around = Around(
            redis=redis_look.look(settings.redis_url),
            journals=journal.waiting(settings.journal_folder),
        )
        try:
            if not pool.run(lambda: is_current(database)):
                told, do = "the database has another schema than this version needs", "run `leadway-calls migrate`"
                return judging.without_database(around, told=told, do=do)
            return pool.run(lambda: _judge(database, around))
        except (SQLAlchemyError, TimeoutError) as error:
            told = f"the database does not answer ({type(error).__name__})"
            return judging.without_database(around, told=told, do="look whether it runs, and at DATABASE_URL")

    return CopyOf(judge)


def _judge(database: Database, around: Around) -> SystemVerdict:
    with database.reading() as connection:
        return judging.judge(connection, around)
