"""The frame of every attempt: the claim, the deadline, isolation of poison rows, and what an error from Leadway means.

Knows nothing of what an attempt is about; the tasks hand that in.
"""
