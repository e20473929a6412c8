-- Calls and minutes for each account, agent and local day.
SELECT
    used.location_id AS location_id,  -- the account; with agent_id and day the key
    used.agent_id AS agent_id,  -- the agent; null: the logs name none
    used.day AS day,  -- the day in the account's time zone
    used.month AS month,  -- the first day of its month
    used.calls AS calls,  -- stored calls, without trial calls
    used.trial_calls AS trial_calls,  -- stored trial calls
    used.minutes AS minutes,  -- seconds divided by 60, without trial calls
    used.minutes_billed AS minutes_billed,  -- begun minutes, call by call, without trial calls; see calls
    used.without_length AS without_length,  -- calls whose length is not known: the minutes lack them
    (SELECT count(*) FROM {{ view('coverage') }} v WHERE v.location_id = used.location_id AND v.day >= used.month AND v.day < used.next_month AND v.is_complete)
        = {% if pg %}used.next_month - used.month{% else %}CAST(julianday(used.next_month) - julianday(used.month) AS integer){% endif %} AS is_month_closed  -- whether coverage proves every day of the month
FROM (
    SELECT
        c.location_id, c.agent_id, c.local_day AS day,
{%- if pg %}
        CAST(date_trunc('month', c.local_day) AS date) AS month,
        CAST(date_trunc('month', c.local_day) + interval '1 month' AS date) AS next_month,
{%- else %}
        date(c.local_day, 'start of month') AS month, date(c.local_day, 'start of month', '+1 month') AS next_month,
{%- endif %}
        sum(CASE WHEN c.trial_call THEN 0 ELSE 1 END) AS calls, sum(CASE WHEN c.trial_call THEN 1 ELSE 0 END) AS trial_calls,
        coalesce(sum(CASE WHEN c.trial_call THEN 0 ELSE c.duration_seconds END), 0) / 60 AS minutes,
        coalesce(sum(CASE WHEN c.trial_call THEN 0 ELSE {% if pg %}CAST(ceil(c.duration_seconds / 60) AS integer){% else %}CAST(c.duration_seconds / 60 AS integer) + (c.duration_seconds / 60 > CAST(c.duration_seconds / 60 AS integer)){% endif %} END), 0) AS minutes_billed,
        sum(CASE WHEN c.duration_seconds IS NULL AND NOT coalesce(c.trial_call, {{ 'false' if pg else '0' }}) THEN 1 ELSE 0 END) AS without_length
    FROM calls c
    WHERE c.local_day IS NOT NULL AND {{ seen('c.location_id') }}
    GROUP BY c.location_id, c.agent_id, c.local_day
) used
