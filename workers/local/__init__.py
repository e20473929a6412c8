"""`make run`: the whole system on one machine, with a Redis of its own.

Not for production, where a platform starts the processes and keeps them running.
"""
