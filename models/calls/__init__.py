"""Calls: Leadway's log as a value, the tables that keep it, and how a reading of it is stored.

Secrets are taken out here before anything is stored. What is owed because of a call is in `models.follow_ups`.
"""
