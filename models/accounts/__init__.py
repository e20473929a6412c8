"""The Leadway locations that are served: credentials, secrets, OAuth grants, and why one of them stands still.

What belongs to one account as a whole lives here. What is owed because of a call lives in `models.work` and above.
"""
