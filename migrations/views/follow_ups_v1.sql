-- What the CRM is owed because of a call: notes, tasks, tags, workflow enrolments.
SELECT
    f.follow_up_id AS follow_up_id,  -- the key, and the reference in the note
    f.location_id AS location_id,  -- the account
    f.call_id AS call_id,  -- the call
    f.action_key AS action_key,  -- the action because of which it is owed
    f.rule_id AS rule_id,  -- the rule that asks for it
    f.kind AS kind,  -- note, task, tag or workflow
    f.contact_id AS contact_id,  -- for whom
    f.status AS state,  -- pending; unclear: the CRM may or may not have done it; done; dead: given up until a person helps; skipped
    CASE
        WHEN f.skip_reason = 'trial_call' THEN 'it was a trial call'
        WHEN f.skip_reason = 'no_contact' THEN 'the log names no contact'
        WHEN f.skip_reason = 'too_old' THEN 'the call had ended too long ago'
        WHEN f.skip_reason IS NOT NULL THEN f.skip_reason
        WHEN w.dead_cause IS NOT NULL THEN 'given up: ' || w.dead_cause
        WHEN f.status = 'unclear' AND w.due_at IS NULL THEN 'a person has to look whether it is there'
        WHEN f.status = 'unclear' THEN 'it is looked for in the CRM'
        WHEN f.status = 'pending' AND w.last_error IS NOT NULL THEN 'tried again: ' || w.last_error
    END AS reason,  -- in words why it is not done; null: it is, or is about to be
    f.planned_at AS planned_at,  -- when it was planned
    f.done_at AS done_at,  -- when it was done
    f.title AS title,  -- [words] of a task
    f.body AS body,  -- [words] the words that were sent; of tags their names
    f.appointment_id AS appointment_id,  -- of the booked appointment that it tells of; null: none was found, or it tells of none
    f.remote_id AS remote_id,  -- Leadway's id of the note or task
    w.due_at AS due_at  -- when it is tried next; null: nothing happens by itself
FROM follow_ups f
LEFT JOIN work w ON w.kind = 'follow_up' AND w.location_id = f.location_id AND w.subject = f.follow_up_id
WHERE {{ seen('f.location_id') }}
