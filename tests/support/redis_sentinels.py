"""A real primary with a replica, and three Sentinels that watch them."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

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
        primary = ValkeyServer(folder / "primary", extra_args=["--repl-diskless-sync-delay", "0"])
        following = ["--repl-diskless-sync-delay", "0", "--replicaof", LOOPBACK, str(primary.port)]
        self.pair = [primary, ValkeyServer(folder / "replica", extra_args=following)]
        """The primary at first, and its replica."""
        self._folder = folder
        self.ports = [free_port() for _ in range(3)]
        self.sentinels = [self._sentinel(number, port) for number, port in enumerate(self.ports)]

    @property
    def url(self) -> str:
        """Where clients connect."""
        return "redis+sentinel://" + ",".join(f"{LOOPBACK}:{port}" for port in self.ports) + f"/{SERVICE}"

    async def start(self) -> None:
        """Start all of them, and wait until they know each other."""
        try:
            await self.pair[0].start()
            await self.pair[1].start()
            for sentinel in self.sentinels:
                sentinel.start()
            await until(self._all_met, "the Sentinels know each other and the replica", timeout_s=30)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop them all."""
        for sentinel in self.sentinels:
            sentinel.kill()
        await asyncio.gather(*(server.stop() for server in self.pair))

    async def command(self, server: ValkeyServer, *args: Any) -> Any:
        """Run a command on one server, a replica too."""
        client: Any = Redis(host=LOOPBACK, port=server.port, protocol=2)
        try:
            return await client.execute_command(*args)
        finally:
            await client.aclose()

    def pause(self, number: int) -> None:
        """Let a Sentinel hang until `resume`."""
        self.sentinels[number].send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let it go on."""
        self.sentinels[number].send_signal(signal.SIGCONT)

    async def in_charge(self, asking: int = 0) -> ValkeyServer:
        """The primary, as a Sentinel says."""
        view = await self._view(self.ports[asking])
        return next(server for server in self.pair if server.port == view["port"])

    async def restore(self) -> None:
        """Start what was killed as the replica of the other, and wait until it follows."""
        primary = await self.in_charge()
        (replica,) = (server for server in self.pair if server is not primary)
        await replica.start()
        await self.command(replica, "REPLICAOF", LOOPBACK, primary.port)  # else the Sentinels do it, after 8 s

        async def follows() -> bool:
            return bool((await self.command(replica, "INFO", "replication")).get("master_link_status") == "up")

        await until(follows, "the replica follows", timeout_s=30)

    async def _all_met(self) -> bool:
        views = await asyncio.gather(*(self._view(port) for port in self.ports))
        return all(view.get("num-other-sentinels") == 2 and view.get("num-slaves") == 1 for view in views)

    async def _view(self, port: int) -> dict[str, Any]:
        client: Any = Redis(host=LOOPBACK, port=port, protocol=2, retry=Retry(NoBackoff(), 0))
        try:
            view: dict[str, Any] = await client.sentinel_master(SERVICE)
        except RedisError:  # it has not started yet
            return {}
        finally:
            await client.aclose()
        return view

    def _sentinel(self, number: int, port: int) -> Process:
        folder = self._folder / f"sentinel{number}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            f"bind {LOOPBACK}\nport {port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.pair[0].port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        return Process(
            f"Sentinel {number}",
            [self.pair[0].process.argv[0], config, "--sentinel"],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=folder / "sentinel.log",
        )
