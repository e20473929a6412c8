"""Reports, which answer people's questions by reading: the verdict, overview, list of calls, timeline of a call, backlog.

Nothing here writes, and nothing that writes may import it.
"""
