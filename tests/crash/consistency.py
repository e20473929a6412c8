"""What must hold of the tables at every moment, whatever was killed: one statement each, so each sees one snapshot."""

from tests.support.world import World

BROKEN = {
    "an announced call that is neither stored nor work": """
        SELECT n.call_id FROM notifications n WHERE n.status = 'accepted' AND n.call_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.location_id = n.location_id AND c.call_id = n.call_id)
        AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = 'call' AND w.location_id = n.location_id
                        AND w.subject = n.call_id)""",
    "work without its call": """
        SELECT w.subject FROM work w WHERE w.kind = 'call' AND w.first_heard_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.location_id = w.location_id AND c.call_id = w.subject)""",
    "work without its follow-up": """
        SELECT w.subject FROM work w WHERE w.kind = 'follow_up'
        AND NOT EXISTS (SELECT 1 FROM follow_ups f WHERE f.follow_up_id = w.subject AND f.location_id = w.location_id
                        AND f.status IN ('pending', 'unclear', 'dead'))""",
    "a follow-up without its work": """
        SELECT f.follow_up_id FROM follow_ups f WHERE f.status IN ('pending', 'unclear', 'dead')
        AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = 'follow_up' AND w.location_id = f.location_id
                        AND w.subject = f.follow_up_id)""",
    "work without its window": """
        SELECT w.subject FROM work w WHERE w.kind IN ('window', 'backfill')
        AND NOT EXISTS (SELECT 1 FROM reconciliations r WHERE r.location_id = w.location_id AND r.slot = w.subject
                        AND r.finished_at IS NULL)""",
    "a window without its work": """
        SELECT r.slot FROM reconciliations r WHERE r.finished_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind IN ('window', 'backfill') AND w.location_id = r.location_id
                        AND w.subject = r.slot)""",
    "an unsettled call without its work": """
        SELECT c.call_id FROM calls c WHERE c.settled_at IS NULL AND c.erased_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = 'call' AND w.location_id = c.location_id
                        AND w.subject = c.call_id)""",
}
"""What must not be, and the query that finds it."""


def inconsistencies(world: World) -> list[str]:
    """What is broken, each with an example."""
    found = {what: world.rows(f"{query} LIMIT 1") for what, query in BROKEN.items()}
    return [f"{what} ({next(iter(rows[0].values()))})" for what, rows in found.items() if rows]
