"""A real primary with a replica, and three Sentinels that watch them."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from redis.exceptions import RedisError

from sred_email_core.redis_connection import open_redis
from sred_email_local.embedded import valkey_binary
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.process import Process
from support.world import until

SERVICE = "email-queue"
_DOWN_AFTER_MS = 1000


class RedisSentinels:
    """Two servers and three Sentinels. A server that was killed can be started again.

    Args:
        folder: Holds what they store.
    """

    def __init__(self, folder: Path) -> None:
        self.primary = ValkeyServer(folder / "primary", extra_args=["--repl-diskless-sync-delay", "0"])
        self.replica = ValkeyServer(
            folder / "replica",
            extra_args=["--repl-diskless-sync-delay", "0", "--replicaof", LOOPBACK, str(self.primary.port)],
        )
        self._folder = folder
        self.ports = [free_port() for _ in range(3)]
        self.sentinels = [self._sentinel(number, port) for number, port in enumerate(self.ports)]
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return "redis+sentinel://" + ",".join(f"{LOOPBACK}:{port}" for port in self.ports) + f"/{SERVICE}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.primary)
            await stack.enter_async_context(self.replica)
            for sentinel in self.sentinels:
                sentinel.start()
                stack.callback(sentinel.kill)
            await until(self._all_met, "the Sentinels know each other and the replica", timeout_s=20)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _all_met(self) -> bool:
        views = await asyncio.gather(*(self._view(port) for port in self.ports))
        return all(view["num-other-sentinels"] == 2 and view["num-slaves"] == 1 for view in views)

    async def _view(self, port: int) -> dict[str, Any]:
        async with open_redis(f"redis://{LOOPBACK}:{port}", timeout=timedelta(seconds=5)) as client:
            try:
                view: dict[str, Any] = await client.sentinel_master(SERVICE)
            except RedisError:  # it has not started yet
                return {"num-other-sentinels": 0, "num-slaves": 0}
            return view

    def _sentinel(self, number: int, port: int) -> Process:
        folder = self._folder / f"sentinel{number}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            f"bind {LOOPBACK}\nport {port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        return Process(
            f"Sentinel {number}",
            [valkey_binary(), config, "--sentinel"],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=folder / "sentinel.log",
        )
