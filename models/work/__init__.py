"""Work: what the system owes and has not done yet. Its rows, lifecycle, history and order of dispatch.

Knows rows with a schedule, whatever they are about. It imports no kind of work: `calls` and `follow_ups` import it.
"""
