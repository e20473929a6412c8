"""Follow-ups: what the CRM is owed because of a call. The rules that plan them, their words, and their rows.

Rules, templates and sanitizing are pure: no database, no HTTP. Writing to the CRM is `workers.send_follow_up`.
"""
