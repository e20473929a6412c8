"""What the system owes and has not done yet: claim, lease, fence, retry, dead-letter, and the order of dispatch.

Knows rows that carry a schedule, whatever they are about. It never imports a kind of work: `calls` and `follow_ups` do
the importing.
"""
