-- Each account and local day: what is stored, what is missing, and whether that is proven to be everything.
SELECT
    day.location_id AS location_id,  -- the account; with day the key
    day.day AS day,  -- the day in the account's time zone
    day.starts_at AS starts_at,  -- when it began; null: a day outside of what is proven
    day.ends_at AS ends_at,  -- when it ended or will end
    day.calls AS calls,  -- stored calls that began on it, trial calls too
    day.unannounced AS unannounced,  -- of those, calls of which no notification came
    day.open AS open,  -- calls of it that are still read, and calls whose start is not known yet and that were known when it was proven, or since
    day.dead AS dead,  -- likewise calls that were given up; one that Leadway does not know counts on the day it was heard of
    day.quarantined AS quarantined,  -- rows of Leadway's list from about that day that could not be taken in and are no stored call
    coalesce(day.complete_from <= day.starts_at AND day.proven_at <= day.complete_until, {{ 'false' if pg else '0' }})
        AND day.open = 0 AND day.dead = 0 AND day.quarantined = 0 AS is_complete,  -- whether every call that Leadway listed at as_of as begun on this day is stored with its final log
    CASE WHEN day.complete_from <= day.starts_at AND day.proven_at <= day.complete_until THEN day.proven_at ELSE day.complete_until END AS as_of  -- the time of Leadway's list up to which this is told; null: nothing was listed yet
FROM (
    SELECT
        known.location_id, known.day, d.starts_at, d.ends_at, d.proven_at, a.complete_from, a.complete_until,
        (SELECT count(*) FROM calls c WHERE c.location_id = known.location_id AND c.local_day = known.day) AS calls,
        (SELECT count(*) FROM calls c WHERE c.location_id = known.location_id AND c.local_day = known.day AND c.announced_at IS NULL) AS unannounced,
        (SELECT count(*) FROM work w LEFT JOIN calls c ON c.location_id = w.location_id AND c.call_id = w.subject
         WHERE w.kind = 'call' AND w.location_id = known.location_id AND w.dead_cause IS NULL AND (c.local_day = known.day
             OR c.local_day IS NULL AND coalesce(c.first_heard_at, w.first_heard_at, w.created_at) <= d.proven_at)) AS open,
        (SELECT count(*) FROM work w LEFT JOIN calls c ON c.location_id = w.location_id AND c.call_id = w.subject
         WHERE w.kind = 'call' AND w.location_id = known.location_id AND w.dead_cause IS NOT NULL AND (c.local_day = known.day
             OR c.local_day IS NULL AND coalesce(c.first_heard_at, w.first_heard_at, w.created_at) <= d.proven_at
                 AND (w.dead_cause <> 'not_found' OR coalesce(c.first_heard_at, w.first_heard_at, w.created_at) >= d.starts_at))) AS dead,
        (SELECT count(*) FROM quarantined_rows q WHERE q.location_id = known.location_id
         AND q.window_from < d.ends_at AND q.window_until > d.starts_at
         AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.location_id = q.location_id AND c.call_id = q.call_id)) AS quarantined
    FROM (
        SELECT location_id, local_day AS day FROM local_days
        UNION ALL
        SELECT DISTINCT c.location_id, c.local_day FROM calls c
        WHERE c.local_day IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM local_days d WHERE d.location_id = c.location_id AND d.local_day = c.local_day)
    ) known
    JOIN accounts a ON a.location_id = known.location_id
    LEFT JOIN local_days d ON d.location_id = known.location_id AND d.local_day = known.day
    WHERE {{ seen('known.location_id') }}
) day
