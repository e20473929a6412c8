"""The rules of the verdict by their stable names. docs/operating/verdict.md tells all of them to people.

`ALWAYS` holds those that need no database.
"""

from models.calls.calls import CALL
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reports.verdict import of_accounts, of_processes, of_what_was_given_up, of_work
from models.reports.verdict.findings import Severity
from models.reports.verdict.rule import RuleWithoutDatabase, VerdictRule

DATABASE_UNUSABLE = "database_unusable"
"""Not asked but known: the database cannot be asked."""

ALWAYS = (
    RuleWithoutDatabase("redis_unreachable", Severity.CRITICAL, of_processes.redis_unreachable),
    RuleWithoutDatabase("journal_not_drained", Severity.CRITICAL, of_processes.journal_not_drained),
    RuleWithoutDatabase("redis_evicts", Severity.WARNING, of_processes.redis_evicts),
    RuleWithoutDatabase("journal_unreadable", Severity.WARNING, of_processes.journal_unreadable),
)
RULES = (
    VerdictRule("web_missing", Severity.CRITICAL, of_processes.missing("web")),
    VerdictRule("worker_missing", Severity.CRITICAL, of_processes.missing("worker")),
    VerdictRule("queue_not_consumed", Severity.CRITICAL, of_processes.queue_not_consumed),
    VerdictRule("notifications_not_taken_in", Severity.CRITICAL, of_work.not_taken_in),
    VerdictRule("work_stands_still", Severity.CRITICAL, of_work.stands_still),
    VerdictRule("account_paused", Severity.CRITICAL, of_accounts.paused),
    VerdictRule("calls_late", Severity.CRITICAL, of_work.calls_late),
    VerdictRule("follow_ups_late", Severity.CRITICAL, of_work.notes_late),
    VerdictRule("breaker_open", Severity.WARNING, of_accounts.breaker_open),
    VerdictRule("backlog_grows", Severity.WARNING, of_work.backlog_grows),
    VerdictRule("notes_slow", Severity.WARNING, of_work.notes_slow),
    VerdictRule("beat_missing", Severity.WARNING, of_processes.missing("beat")),
    VerdictRule("process_silent", Severity.WARNING, of_processes.process_silent),
    VerdictRule("clock_skewed", Severity.WARNING, of_processes.clock_skewed),
    VerdictRule("two_deployments", Severity.WARNING, of_processes.two_deployments),
    VerdictRule("webhook_alarm", Severity.WARNING, of_accounts.webhook_alarm),
    VerdictRule("completeness_behind", Severity.WARNING, of_accounts.completeness_behind),
    VerdictRule("window_open_long", Severity.WARNING, of_accounts.window_open_long),
    VerdictRule("account_without_token", Severity.WARNING, of_accounts.without_token),
    VerdictRule("no_account", Severity.WARNING, of_accounts.no_account),
    VerdictRule("references_lost", Severity.WARNING, of_accounts.references_lost),
    VerdictRule("dead_call", Severity.WARNING, of_what_was_given_up.dead(CALL.name)),
    VerdictRule("dead_follow_up", Severity.WARNING, of_what_was_given_up.dead(FOLLOW_UP.name)),
    VerdictRule("follow_up_for_a_person", Severity.WARNING, of_what_was_given_up.for_a_person),
    VerdictRule("follow_up_unclear_long", Severity.WARNING, of_what_was_given_up.unclear_long),
    VerdictRule("notification_quarantined", Severity.WARNING, of_what_was_given_up.notification_quarantined),
    VerdictRule("listed_row_quarantined", Severity.WARNING, of_what_was_given_up.row_quarantined),
    VerdictRule("paused_by_person", Severity.INFO, of_accounts.paused_by_person),
    VerdictRule("versions_mixed", Severity.INFO, of_processes.versions_mixed),
    VerdictRule("notifications_refused", Severity.INFO, of_what_was_given_up.refused),
)
"""In the order in which one explains the other, worst first."""
