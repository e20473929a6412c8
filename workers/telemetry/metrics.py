"""The catalogue of metrics: counters and timers of all processes. What waits is counted in the database at a scrape."""

from prometheus_client import Counter, Gauge, Histogram, values

values.ValueClass = values.MutexValue
"""In memory, whatever the environment says: importing opens no file. `metrics_files.share_counters` opens them."""

NOTIFICATIONS = Counter(
    "leadway_notifications_total",
    "Notifications answered, by the status in the answer and by authentication.",
    ["status", "authenticated_by"],
)
REJECTIONS = Counter(
    "leadway_rejections_total", "Notifications refused, ignored or left unresolved, by reason.", ["reason"]
)
RECEIPT_SECONDS = Histogram(
    "leadway_receipt_seconds",
    "Time from the arrival of a notification in the application to its answer.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
SIGN_INS = Counter(
    "leadway_sign_ins_total",
    "Sign-ins to the operators' pages, by outcome: signed_in, failed, refused (after too many failures).",
    ["outcome"],
)
JOURNALED = Counter(
    "leadway_journaled_total", "Notifications written into the journal because the database did not take them in time."
)
DRAINED = Counter("leadway_drained_total", "Notifications that went from the journal into the database.")
TAKEN_IN = Counter("leadway_taken_in_total", "Notifications that left the inbox, by what became of them.", ["status"])
WAKE_UP_FAILURES = Counter("leadway_wake_up_failures_total", "Wake-ups of the dispatcher that did not get into Redis.")
ENQUEUED = Counter("leadway_enqueued_total", "Messages that the dispatcher put into Redis, by kind of work.", ["work"])
UNREADABLE_MESSAGES = Counter(
    "leadway_unreadable_messages_total", "Messages in Redis that no worker could read; they were dropped."
)
ATTEMPTS = Counter("leadway_attempts_total", "Attempts that ended, by kind of work and outcome.", ["work", "outcome"])
API_REQUESTS = Counter(
    "leadway_api_requests_total",
    "Requests to Leadway, by endpoint and HTTP status or kind of error.",
    ["endpoint", "answer"],
)
API_SECONDS = Histogram(
    "leadway_api_request_seconds",
    "Duration of requests to Leadway.",
    ["endpoint"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
)
BUDGET_WAIT_SECONDS = Histogram(
    "leadway_budget_wait_seconds",
    "Time that requests to Leadway waited for their slot of the budget.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
)
BUDGET_REFUSALS = Counter(
    "leadway_budget_refusals_total",
    "Requests not made because the budget had no slot soon enough, by lane and cause.",
    ["lane", "why"],
)
STORED_SECONDS = Histogram(
    "leadway_stored_after_seconds",
    "Time from the first announcement of a call to its first stored log.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0),
)
UNKNOWN_FIELDS = Counter(
    "leadway_unknown_fields_total", "Fields of call logs that no source describes; the stored document keeps them."
)
UNREAD_FIELDS = Counter(
    "leadway_unread_fields_total", "Fields of call logs whose value could not be read, by name; it is kept.", ["field"]
)
ZONELESS_TIMES = Counter(
    "leadway_zoneless_times_total", "Times of call logs that named no zone, and were read in their account's."
)
UNKNOWN_ACTION_TYPES = Counter(
    "leadway_unknown_action_types_total", "Stored actions of a type that Leadway's documents do not name."
)
FOUND_BY_REFERENCE_SECONDS = Histogram(
    "leadway_found_by_reference_seconds",
    "Time for which an outcome was unclear until a probe found the note or task by its reference.",
    buckets=(1, 5, 15, 30, 60, 120, 180, 300, 900, 3600),
)
PAUSES = Counter("leadway_pauses_total", "Pauses of accounts that began, by cause.", ["cause"])
LIVES_BEGUN = Counter("leadway_database_lives_total", "New lives of the database that were noticed.", ["cause"])
DOUBLED = Counter("leadway_doubled_total", "Follow-ups that a probe found more than once in the CRM; should stay 0.")
UNEXPECTED_ERRORS = Counter(
    "leadway_unexpected_errors_total",
    "Attempts that an unexpected exception ended, by kind of work and exception.",
    ["work", "error"],
)
LISTED = Counter(
    "leadway_listed_calls_total", "Listed calls that were stored, announced or brought up to date.", ["outcome"]
)
UNANNOUNCED = Counter(
    "leadway_unannounced_calls_total", "Calls that became known by Leadway's list alone.", ["location_id"]
)
WINDOWS = Counter(
    "leadway_windows_read_total", "Windows of Leadway's list that were read to their end, by kind.", ["kind"]
)
WINDOW_FAILURES = Counter(
    "leadway_window_failures_total", "Pages of Leadway's list that were not read, by kind of error.", ["reason"]
)
WEBHOOK_ALARM = Gauge(
    "leadway_webhook_alarm",
    "1 while calls come unannounced, else 0.",
    ["location_id"],
    multiprocess_mode="mostrecent",
)
