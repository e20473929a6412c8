-- The calls: one row for each that is stored, and for each that is known and not stored yet.
{# `|| ''` keeps the index of action types, which has thousands of rows for each, out of a look at one call. #}
{% if pg %}SELECT * FROM (  -- around the union, whose own conditions a reader's might precede
{% endif %}SELECT
    c.location_id AS location_id,  -- the account; with call_id the key
    c.call_id AS call_id,  -- Leadway's id of the call
    CASE
        WHEN c.erased_at IS NOT NULL THEN 'erased' WHEN w.dead_cause IS NOT NULL THEN 'dead'
        WHEN w.kind IS NOT NULL THEN 'pending' ELSE 'complete'
    END AS state,  -- pending: its log is still to be read, or read again; complete; dead: given up until a person, a listing or a notification revives it; erased: at a person's request
    c.started_at AS started_at,  -- when it began; null: not known yet
    c.local_day AS started_on,  -- the day on which it began in the account's time zone, as that was when the log was stored
    c.local_hour AS started_hour,  -- the hour in which it began, likewise, 0 to 23
    c.direction AS direction,  -- inbound or outbound; null: the log does not tell, as most do not
    c.from_number AS from_number,  -- [words] the caller's number
    c.to_number AS to_number,  -- [words] the dialled number, where the log tells
    c.duration_seconds AS duration_seconds,  -- how long it lasted; null: not known
    {% if pg %}CAST(ceil(c.duration_seconds / 60) AS integer){% else %}CAST(c.duration_seconds / 60 AS integer) + (c.duration_seconds / 60 > CAST(c.duration_seconds / 60 AS integer)){% endif %} AS minutes_billed,  -- each begun minute counts: 61 seconds are 2. Leadway publishes no rule of its invoice, which may round otherwise; null: the length is not known
    c.agent_id AS agent_id,  -- the Voice AI agent
    c.agent_name AS agent_name,  -- its name as this log tells it; null: it does not
    c.contact_id AS contact_id,  -- the contact in the CRM
    c.message_id AS message_id,  -- Leadway's id of the message in the conversation
    c.trial_call AS is_trial,  -- made from the agent's test page
    CASE WHEN c.actions_from IS NOT NULL THEN EXISTS (
        SELECT 1 FROM call_actions a WHERE a.location_id = c.location_id AND a.call_id = c.call_id AND a.action_type || '' = 'CALL_TRANSFER'
    ) END AS is_transferred,  -- whether a transfer to a person was started; how it ended is not told; null: nobody looked yet
    c.agent_handoff AS is_handed_off,  -- whether one agent handed over to another, most likely
    CASE WHEN c.actions_from IS NOT NULL THEN (
        SELECT count(*) FROM call_actions a WHERE a.location_id = c.location_id AND a.call_id = c.call_id AND a.action_type || '' = 'APPOINTMENT_BOOKING'
    ) END AS bookings,  -- how often the agent booked; whether an appointment was found for it tells follow_ups; null: nobody looked yet
    c.translation ->> 'language' AS language,  -- of the translation, where the log tells one
    c.summary AS summary,  -- [words] Leadway's summary
    c.contact_from AS contact_from,  -- where the contact comes from: fetch, list or notification; null: nobody looked yet. With a source and without a value a part is known to be absent
    c.summary_from AS summary_from,  -- likewise the summary
    c.transcript_from AS transcript_from,  -- likewise what call_turns has
    c.extracted_data_from AS fields_from,  -- likewise what call_fields has
    c.actions_from AS actions_from,  -- likewise what call_actions has
    c.origin AS origin,  -- what made it known: notification, reconcile, backfill
    c.first_heard_at AS first_heard_at,  -- when it became known here
    c.announced_at AS announced_at,  -- when its notification came; null: none came
    c.stored_at AS stored_at,  -- when its log was first stored; null: it is not stored yet
    c.settled_at AS settled_at,  -- when its log was final; null: Leadway may still be writing it
    c.emptied_at AS emptied_at,  -- when its words were deleted after the retention time
    c.erased_at AS erased_at,  -- when it was erased at a person's request
    w.dead_cause AS dead_cause  -- why it is dead, in a word of ours
FROM calls c
LEFT JOIN work w ON w.kind = 'call' AND w.location_id = c.location_id AND w.subject = c.call_id
UNION ALL
SELECT
    w.location_id, w.subject, CASE WHEN w.dead_cause IS NOT NULL THEN 'dead' ELSE 'pending' END,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, w.origin, coalesce(w.first_heard_at, w.created_at), w.announced_at,
    NULL, NULL, NULL, NULL, w.dead_cause
FROM work w
WHERE w.kind = 'call'
    AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.location_id = w.location_id AND c.call_id = w.subject)
{% if pg %}) call
WHERE {{ seen('call.location_id') }}
{% endif %}