-- The accounts, Leadway locations that are or were served, without their secrets.
SELECT
    a.location_id AS location_id,  -- the key, Leadway's id of the location
    a.name AS name,  -- a name for people
    a.language AS language,  -- of its notes: en or es
    a.time_zone AS time_zone,  -- its time zone now, an IANA name
    a.follow_up_age_hours AS follow_up_age_hours,  -- calls that ended longer ago get no follow-ups
    a.added_at AS added_at,  -- since when it is served
    a.removed_at AS removed_at,  -- since when it is not served any more; null: it is
    a.complete_from AS complete_from,  -- every call that Leadway lists as started from here
    a.complete_until AS complete_until,  -- to here is stored, or open or dead in calls
    EXISTS (SELECT 1 FROM pauses p WHERE p.location_id = a.location_id) AS is_paused  -- whether all or some of its work stands still
FROM accounts a
WHERE {{ seen('a.location_id') }}
