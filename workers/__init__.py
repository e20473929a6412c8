"""What the system does: one module for each task, and one package for what a kind of task needs.

Each task is one attempt at one thing; the rows in the database remember, Redis only hints. Nothing here answers HTTP.
"""
