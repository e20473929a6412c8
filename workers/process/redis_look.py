"""One look at Redis, for the verdict: does it answer, does it keep what it holds, how much waits in its queues."""

from models.reports.verdict.findings import RedisSeen
from models.reports.verdict.of_processes import QUEUES


def look(redis_url: str, *, seconds: float) -> RedisSeen:
    """Gives up after about `seconds`. PING decides: a user may have no right to ask about the rest."""
    from redis import Redis, RedisError, ResponseError  # here: a web process answers its first notification before
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with Redis.from_url(
            redis_url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        ) as client:
            client.ping()
            try:
                policy = client.info("memory").get("maxmemory_policy")
                queued = {queue: int(client.llen(queue)) for queue in QUEUES}
            except ResponseError:
                return RedisSeen()
    except (RedisError, ValueError, OSError) as error:
        return RedisSeen(trouble=f"does not answer ({type(error).__name__})")
    return RedisSeen(policy=policy, queued=queued)
