"""The catalogue of metrics: every counter and timer of web and workers. Gauges of what waits are read when scraped."""

from prometheus_client import Counter, Gauge, Histogram, values

values.ValueClass = values.MutexValue
"""In memory, whatever the environment says: importing opens no file. `metrics_files.share_counters` opens them."""

NOTIFICATIONS = Counter(
    "leadway_notifications_total",
    "Notifications answered, by the answer's status and how they were authenticated.",
    ["status", "authenticated_by"],
)
REJECTIONS = Counter(
    "leadway_rejections_total", "Notifications refused, ignored or left unresolved, by reason.", ["reason"]
)
RECEIPT_SECONDS = Histogram(
    "leadway_receipt_seconds",
    "From a notification's arrival in the application to its answer.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
WAKE_UP_FAILURES = Counter("leadway_wake_up_failures_total", "Rings that did not get into Redis.")
ENQUEUED = Counter("leadway_enqueued_total", "Messages that the dispatcher put into Redis, by work.", ["work"])
ATTEMPTS = Counter("leadway_attempts_total", "Attempts ended, by work and outcome.", ["work", "outcome"])
API_REQUESTS = Counter(
    "leadway_api_requests_total", "Requests to Leadway, by endpoint and answer.", ["endpoint", "answer"]
)
API_SECONDS = Histogram(
    "leadway_api_request_seconds",
    "Duration of requests to Leadway.",
    ["endpoint"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
)
BUDGET_WAIT_SECONDS = Histogram(
    "leadway_budget_wait_seconds",
    "How long requests to Leadway waited for their slot.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
)
BUDGET_REFUSALS = Counter(
    "leadway_budget_refusals_total",
    "Attempts put back because the budget had no slot soon enough, by lane and what it waits for.",
    ["lane", "why"],
)
STORED_SECONDS = Histogram(
    "leadway_stored_after_seconds",
    "From a call's first announcement to its log being stored.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0),
)
UNKNOWN_FIELDS = Counter("leadway_unknown_fields_total", "Fields of call logs that no source describes; they are kept.")
UNKNOWN_ACTION_TYPES = Counter(
    "leadway_unknown_action_types_total", "Actions of a type unknown to us, stored as they are."
)
FOUND_BY_REFERENCE_SECONDS = Histogram(
    "leadway_found_by_reference_seconds",
    "How long an outcome had been unclear when the written thing was found by its reference.",
    buckets=(1, 5, 15, 30, 60, 120, 180, 300, 900, 3600),
)
PAUSES = Counter("leadway_pauses_total", "Pauses that began, by cause.", ["cause"])
DOUBLED = Counter("leadway_doubled_total", "Follow-ups found more than once in the CRM: should never move.")
UNEXPECTED_ERRORS = Counter(
    "leadway_unexpected_errors_total", "Attempts that ended in an error nobody expected.", ["work", "error"]
)
LISTED = Counter("leadway_listed_calls_total", "Listed calls, by what became of them.", ["outcome"])
UNANNOUNCED = Counter("leadway_unannounced_calls_total", "Calls that only Leadway's list told us of.", ["location_id"])
WINDOWS = Counter("leadway_windows_read_total", "Windows of Leadway's list read to their end, by kind.", ["kind"])
WINDOW_FAILURES = Counter("leadway_window_failures_total", "Pages that could not be used, by reason.", ["reason"])
COMPLETE_UNTIL = Gauge(
    "leadway_complete_until_timestamp_seconds",
    "Every call that began before is in the database.",
    ["location_id"],
    multiprocess_mode="mostrecent",
)
WEBHOOK_ALARM = Gauge(
    "leadway_webhook_alarm",
    "1 while calls come unannounced, 0 else.",
    ["location_id"],
    multiprocess_mode="mostrecent",
)
