"""Calls: Leadway's log as a value, the tables that hold it, and how a reading of it is stored.

Secrets are redacted here before anything is stored. What is owed to the CRM because of a call is in `follow_ups`.
"""
