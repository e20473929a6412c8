"""One look at Redis, for the verdict: does it answer, does it keep what it holds, how much waits in its queues."""

from models.reports.verdict.findings import RedisSeen
from models.reports.verdict.of_processes import NEEDED_QUEUES
from models.settings import SettingsError
from workers.process.redis_address import redis_client

REDIS_LOOK_SECONDS = 1.0
"""For each answer."""


def look(redis_url: str) -> RedisSeen:
    """PING decides: a user may have no right to ask about the rest."""
    from redis import RedisError, ResponseError  # here: a web process answers its first notification before

    try:
        with redis_client(redis_url, seconds=REDIS_LOOK_SECONDS, retries=0) as client:
            client.ping()
            queued = policy = role = None
            try:
                queued = {queue: int(client.llen(queue)) for queue in NEEDED_QUEUES}
                told = client.info()
                policy, role = told.get("maxmemory_policy"), told.get("role")
            except ResponseError:
                pass  # it answers, and what was told so far is known
    except SettingsError:
        return RedisSeen("has no address that can be read", "correct REDIS_URL")
    except (RedisError, OSError) as error:
        return _trouble(error)
    if role == "slave":
        return RedisSeen("is a replica, which takes no writes", "let REDIS_URL lead to the primary")
    return RedisSeen(policy=policy, queued=queued)


def _trouble(error: Exception) -> RedisSeen:
    from redis import AuthenticationError
    from redis.sentinel import MasterNotFoundError

    if isinstance(error, AuthenticationError):
        return RedisSeen("refuses the user name or the password", "correct REDIS_URL")
    if isinstance(error, MasterNotFoundError):
        return RedisSeen("has no server that the Sentinels know by this name", "correct `master` in REDIS_URL, or wait")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RedisSeen("has a certificate that is not trusted", "name its authority: `ssl_ca_certs` in REDIS_URL")
    return RedisSeen(f"does not answer ({type(error).__name__})", "start it, or correct REDIS_URL")
