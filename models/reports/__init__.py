"""People's questions, answered by reading only: the overview, the list of calls, one call's timeline, the backlog.

Nothing in here writes, and nothing that writes may import it.
"""
