"""Reports, which only read, to answer people's questions: verdict, overview, list of calls, timeline, backlog.

Nothing here writes, and nothing that writes may import it.
"""
