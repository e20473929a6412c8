"""What HTTP can reach: the receiver of notifications, health and metrics, and the pages for operators.

A request ends when its row is committed. Nothing here asks Leadway anything.
"""
