"""What a worker process is made of: connections, heartbeat, ticks, wake-ups of the dispatcher, patches of Celery.

Nothing here reads or writes a call or a follow-up. The connections carry the follow-up rules, which a process loads
once.
"""
