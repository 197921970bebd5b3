"""Which commands a service must be allowed, and whether it is: asked before the first email needs one."""

from collections.abc import Collection
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys

_SHARED = (
    "evalsha script|load ping info time "
    "hdel hexists hget hlen hmget hset hsetnx "
    "lpush ltrim unlink "
    "xadd xdel xinfo|groups xlen xpending xrange "
    "zadd zcard zrem zscore"
)
INGRESS_COMMANDS = frozenset(f"{_SHARED} get set hscan zscan".split())
"""What the ingress runs, in scripts and outside of them, as Redis' ACL names it."""

CONSUMER_COMMANDS = frozenset(
    (
        f"{_SHARED} blpop del exists hgetall hkeys pexpire sadd scard "
        "xack xclaim xgroup|create xgroup|delconsumer xinfo|consumers xreadgroup "
        "zcount zrangebyscore zremrangebyscore zrevrange"
    ).split()
)
"""The same of the consumer."""

_PROBES: dict[str, tuple[Any, ...]] = {
    "ping": ("PING",),
    "time": ("TIME",),
    "info": ("INFO", "memory"),
    "evalsha": ("EVALSHA", "0" * 40, 0),
    "script|load": ("SCRIPT LOAD", "return 0"),
    "get": ("GET", "key"),
    "set": ("SET", "key", "", "XX"),
    "exists": ("EXISTS", "key"),
    "pexpire": ("PEXPIRE", "key", 1000),
    "hsetnx": ("HSETNX", "key", "field", ""),
    "hset": ("HSET", "key", "field", ""),
    "hget": ("HGET", "key", "field"),
    "hmget": ("HMGET", "key", "field"),
    "hgetall": ("HGETALL", "key"),
    "hkeys": ("HKEYS", "key"),
    "hexists": ("HEXISTS", "key", "field"),
    "hlen": ("HLEN", "key"),
    "hscan": ("HSCAN", "key", 0),
    "hdel": ("HDEL", "key", "field"),
    "zadd": ("ZADD", "key", "XX", 1, "member"),
    "zcard": ("ZCARD", "key"),
    "zcount": ("ZCOUNT", "key", 0, 1),
    "zscore": ("ZSCORE", "key", "member"),
    "zscan": ("ZSCAN", "key", 0),
    "zrangebyscore": ("ZRANGEBYSCORE", "key", 0, 1),
    "zrevrange": ("ZREVRANGE", "key", 0, 1),
    "zrem": ("ZREM", "key", "member"),
    "zremrangebyscore": ("ZREMRANGEBYSCORE", "key", 0, 1),
    "xadd": ("XADD", "key", "NOMKSTREAM", "*", "field", ""),
    "xlen": ("XLEN", "key"),
    "xrange": ("XRANGE", "key", "-", "+", "COUNT", 1),
    "xdel": ("XDEL", "key", "1-1"),
    "xgroup|create": ("XGROUP CREATE", "key", "group", "0"),
    "xgroup|delconsumer": ("XGROUP DELCONSUMER", "key", "group", "consumer"),
    "xinfo|groups": ("XINFO GROUPS", "key"),
    "xinfo|consumers": ("XINFO CONSUMERS", "key", "group"),
    "xreadgroup": ("XREADGROUP", "GROUP", "group", "consumer", "COUNT", 1, "STREAMS", "key", ">"),
    "xpending": ("XPENDING", "key", "group"),
    "xclaim": ("XCLAIM", "key", "group", "consumer", 0, "1-1"),
    "xack": ("XACK", "key", "group", "1-1"),
    "lpush": ("LPUSH", "key", ""),
    "ltrim": ("LTRIM", "key", 1, 0),
    "blpop": ("BLPOP", "key", 0.001),
    "sadd": ("SADD", "key", ""),
    "scard": ("SCARD", "key"),
    "del": ("DEL", "key"),
    "unlink": ("UNLINK", "key"),
}
"""For each command a call that leaves nothing behind at the end of all.

Many fail, since ``key`` is of another type or is not there: whether the user may is asked before that.
"""


class Permissions:
    """Tries commands on a key that nothing else uses."""

    def __init__(self, redis: Redis, keys: QueueKeys, commands: Collection[str]) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._commands = commands

    async def lacking(self) -> list[str]:
        """What the user of this connection would need besides what it may, as it is written in an ACL, sorted.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        key = f"{self._keys.prefix}:permissions"
        probes = {command: probe for command, probe in _PROBES.items() if command in self._commands}
        pipe = self._redis.pipeline(transaction=False)
        for probe in probes.values():
            pipe.execute_command(*(key if part == "key" else part for part in probe))
        try:
            answers = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e
        refused = {c: str(a) for c, a in zip(probes, answers, strict=True) if isinstance(a, NoPermissionError)}
        if any("key" in words.partition("the '")[0] for words in refused.values()):
            return [f"~{self._keys.prefix}:*"]
        return [f"+{command}" for command in sorted(refused)]
