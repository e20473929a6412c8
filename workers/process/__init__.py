"""What a worker process is made of: connections, heartbeat, wake-ups of the dispatcher, patches of Celery.

Nothing here knows a call or a follow-up.
"""
