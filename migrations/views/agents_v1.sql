-- The Voice AI agents that stored calls name.
SELECT
    c.location_id AS location_id,  -- the account; with agent_id the key
    c.agent_id AS agent_id,  -- Leadway's id of the agent
    {% if pg %}(array_agg(c.agent_name ORDER BY c.started_at DESC) FILTER (WHERE c.agent_name IS NOT NULL AND c.started_at IS NOT NULL))[1]{% else %}substr(max(CASE WHEN c.agent_name IS NOT NULL THEN c.started_at || c.agent_name END), 27){% endif %} AS name,  -- as the newest log that tells it; null: none does
    min(c.started_at) AS first_seen_at,  -- the start of its first stored call
    max(c.started_at) AS last_seen_at,  -- the start of its last stored call
    count(*) AS calls  -- stored calls, trial calls too
FROM calls c
WHERE c.agent_id IS NOT NULL AND {{ seen('c.location_id') }}
GROUP BY c.location_id, c.agent_id
