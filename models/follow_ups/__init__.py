"""What the CRM is owed because of a call: the rules that plan it, its words, and the rows that prove it.

Rules, templates and sanitizing are pure: no database, no HTTP. Writing to the CRM is `workers.send_follow_up`.
"""
