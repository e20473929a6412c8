"""One attempt from claim to commit: its frame and deadline, the isolation of poison rows, and what its result means.

`storing` is for a call log that was read, `failure_policy` for an error. What a task asks of Leadway is in the tasks.
"""
