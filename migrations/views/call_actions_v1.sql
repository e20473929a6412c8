-- What the agent did in a call.
SELECT
    a.location_id AS location_id,  -- the account
    a.call_id AS call_id,  -- the call
    a.action_key AS action_key,  -- with the call the key; ours, never changed
    a.position AS position,  -- the order in the log, from 0
    a.action_id AS action_id,  -- Leadway's id; may be missing, may repeat
    a.action_type AS action_type,  -- APPOINTMENT_BOOKING, CALL_TRANSFER, SMS, WORKFLOW_TRIGGER, DATA_EXTRACTION, IN_CALL_DATA_EXTRACTION, KNOWLEDGE_BASE, CUSTOM_ACTION; others as they come
    a.action_name AS action_name,  -- as the agent's builder named it
    a.parameters AS parameters,  -- [words] JSON object, secrets replaced
    a.executed_at AS executed_at,  -- when it was done
    a.trigger_received_at AS trigger_received_at  -- when the agent decided it
FROM call_actions a
WHERE {{ seen('a.location_id') }}
