"""Accounts, the Leadway locations that are served: credentials, secrets, OAuth grants, pauses, circuit breakers.

Holds what belongs to an account as a whole. What is owed because of a call is in `models.work` and above it.
"""
