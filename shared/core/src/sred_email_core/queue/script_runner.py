"""Runs the scripts in ``lua/``: the only way in which anything moves in Redis."""

import functools
import importlib.resources
import time
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError, ResponseError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import GROUP, QueueKeys

log = structlog.get_logger(__name__)

_COMPLAIN_EVERY_S = 10.0


@functools.cache
def _sources() -> dict[str, str]:
    """Each script, by the name of its file."""
    folder = importlib.resources.files("sred_email_core.queue") / "lua"
    return {f.name.removesuffix(".lua"): f.read_text() for f in folder.iterdir() if f.name.endswith(".lua")}


class ScriptRunner:
    """Knows every script by the name of its file.

    What Redis answers with an error is told as QueueUnavailableError too: nothing was lost, and somebody has to mend
    Redis (full, read-only, no permission, a key of another type). Such errors are logged, at most one every ten
    seconds.
    """

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._complained_at_s = 0.0
        self._scripts: dict[str, AsyncScript] = {
            name: redis.register_script(source) for name, source in _sources().items()
        }

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:  # noqa: ANN401 - what Lua returns
        """Run a script; a group that is gone is created again and the script run once more.

        Raises:
            QueueUnavailableError: Redis does not answer, or refuses.
        """
        script = self._scripts[name]
        try:
            try:
                return await cast("Awaitable[Any]", script(keys=keys, args=args))
            except ResponseError as e:
                if "NOGROUP" not in str(e):
                    raise
                await self.ensure_groups()
                return await cast("Awaitable[Any]", script(keys=keys, args=args))
        except (RedisError, OSError, TimeoutError) as e:
            self._complain(name, e)
            raise QueueUnavailableError(f"Redis: {e}") from e

    async def ensure_groups(self) -> None:
        """Create the streams and their group where they are missing: at 0, so that nothing on them is skipped."""
        try:
            await cast("Awaitable[Any]", self._scripts["create_groups"](keys=self._keys.streams, args=[GROUP]))
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e

    def _complain(self, name: str, error: Exception) -> None:
        now_s = time.monotonic()
        if isinstance(error, ResponseError) and now_s - self._complained_at_s > _COMPLAIN_EVERY_S:
            self._complained_at_s = now_s
            log.error("redis_refuses", script=name, reason=str(error))
