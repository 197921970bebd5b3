"""What a Redis must be like for emails to be safe in it, and for this service to work with it."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.permissions import Permissions
from sred_email_core.redis_address import Topology, parse_redis_url
from sred_email_core.redis_connection import open_redis, server_of
from sred_email_core.settings import ServiceSettings

_ANSWER_S = 1.0
"""Shorter than what a health check may take: a Redis that hangs is another check's matter."""
_LEAST_VERSION = (7, 0)
_WHERE_IT_IS_SAID = "docs/redis.md says what each service needs"


@asynccontextmanager
async def open_fit_redis(
    settings: ServiceSettings, commands: Collection[str], *, timeout: timedelta
) -> "AsyncIterator[tuple[Redis, RedisFitness]]":
    """A client of the Redis that the settings name while the context is open, and the check that it can be worked with.

    Args:
        settings: Of the service.
        commands: What the service must be allowed.
        timeout: For connecting and for each answer.

    Raises:
        SystemExit: With code 2, after one line on standard error: it can't be worked with.
    """
    async with open_redis(
        settings.redis_url,
        timeout=timeout,
        prefix=settings.redis_prefix,
        certificates=settings.redis_certificates,
    ) as redis:
        permissions = Permissions(redis, QueueKeys(settings.redis_prefix), commands)
        cluster = parse_redis_url(settings.redis_url).topology is Topology.CLUSTER
        fitness = RedisFitness(redis, permissions, cluster=cluster)
        await fitness.refuse_to_start()
        yield redis, fitness


class RedisFitness:
    """A health check: this Redis can be worked with. While it is away, that can't be known.

    It must keep what it holds when its memory is full, be of a version that has what the scripts use, be what the URL
    says it is, and let this user run each command. All but the first is asked until it is known, and then not again.
    """

    def __init__(self, redis: Redis, permissions: Permissions, *, cluster: bool = False) -> None:
        """Prepare.

        Args:
            redis: The connection.
            permissions: What this service must be allowed.
            cluster: Whether the URL says that this is a cluster.
        """
        self._redis = redis
        self._permissions = permissions
        self._cluster = cluster
        self._known_good = False

    async def __call__(self) -> None:
        """Return if so, or if Redis does not say.

        Raises:
            RuntimeError: It can't be used, and why.
        """
        problem = await self._problem()
        if problem:
            raise RuntimeError(problem)

    async def refuse_to_start(self) -> None:
        """Return if so, or if Redis does not say.

        Raises:
            SystemExit: With code 2, after one line on standard error: it can't be used, and what to do.
        """
        problem = await self._problem()
        if problem:
            print(f"SRED_EMAIL_REDIS_URL: {problem}", file=sys.stderr)  # noqa: T201 - as bad settings are told
            raise SystemExit(2)

    async def _problem(self) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                problem = None if self._known_good else await self._misfit()
                self._known_good = problem is None
                return problem or await self._eviction()
        except NoPermissionError as e:  # before a connection could be made
            return f"its user may not do what a connection needs ({e}): {_WHERE_IT_IS_SAID}"
        except (RedisError, QueueUnavailableError, OSError):  # TimeoutError is one
            return None

    async def _misfit(self) -> str | None:
        server = await server_of(self._redis)
        if server.get("mode") == "sentinel":
            return "this is a Sentinel: write redis+sentinel://host:26379/service"
        if server.get("mode") == "cluster" and not self._cluster:
            return "this is a node of a cluster: write redis+cluster://host:6379"
        version = re.match(r"(\d+)\.(\d+)", str(server.get("version", "")))
        if version and (int(version[1]), int(version[2])) < _LEAST_VERSION:
            return f"this Redis is of version {server['version']}: 7.0 is the first that can be used"
        lacking = await self._permissions.lacking()
        if lacking:
            return f"its user lacks {' '.join(lacking)}: {_WHERE_IT_IS_SAID}"
        return None

    async def _eviction(self) -> str | None:
        memory = await self._redis.info("memory")  # unlike CONFIG, it is allowed everywhere
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy == "noeviction":
            return None
        return f"the maxmemory-policy of this Redis is {policy}, which throws emails away: set it to noeviction"
