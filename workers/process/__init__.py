"""What a worker process is made of: connections, heartbeat, the dispatcher's wake-up, patches of Celery.

Nothing here knows a call or a follow-up.
"""
