"""What HTTP can reach: the receiver of notifications, health and metrics, and the pages for operators.

A notification is answered when its row is committed. Nothing here sends a request to Leadway.
"""
