"""Which server is in charge of the queue: all keys are in one place, so it is always one."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.cluster import parse_cluster_slots
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError  # noqa: A004 - the library's

Node = tuple[str, int]
"""Host and port."""

OpenNode = Callable[[Node], Redis]
"""Opens a client of one server, which repeats nothing."""


class Primary(ABC):
    """Finds the server in charge. Connections ask when they connect; no command goes anywhere else.

    Attributes:
        generation: Rises when the server that was found turns out not to be in charge: connections that were made
            before are given up.
    """

    def __init__(self) -> None:
        self.generation = 0

    @abstractmethod
    async def find(self) -> Node:
        """Where it is now.

        Raises:
            RedisError: Nobody says.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of whoever was asked."""

    def doubt(self, generation: int) -> None:
        """Tell that the server which a connection of this generation was made to is not in charge any more."""
        if generation == self.generation:
            self.generation += 1

    def miss(self, generation: int) -> None:
        """Tell that it does not answer: then another may be in charge."""
        self.doubt(generation)


class OnlyServer(Primary):
    """There is one server, or one name that leads to the one in charge."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    async def find(self) -> Node:
        """Where it always was."""
        return self._node

    async def aclose(self) -> None:
        """Nobody was asked."""

    def miss(self, generation: int) -> None:
        """There is no other: connections that work are kept."""


class _Asked(Primary):
    """Others must be asked.

    Connections that are made at the same time ask once, and the rest go on when one of them is cancelled: calls have
    250 ms for Redis, which one server that hangs would use up time and again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asking: asyncio.Task[Node] | None = None

    async def find(self) -> Node:
        """What those who know say now."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    @abstractmethod
    async def _ask(self) -> Node: ...

    def _answered(self, task: asyncio.Task[Node]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # who still waits is told; that nobody does is no error


class SentinelPrimary(_Asked):
    """Sentinels know. The first that answers, and that does not itself think that the server is down, is believed."""

    def __init__(self, sentinel: Sentinel, service: str) -> None:
        super().__init__()
        self._sentinel = sentinel
        self._service = service

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        await super().aclose()
        await self._sentinel.aclose()

    async def _ask(self) -> Node:
        host, port = await self._sentinel.discover_master(self._service)
        return str(host), int(port)


@dataclass(frozen=True, slots=True)
class _Shard:
    """Some slots, first and last, and the nodes that hold them, the primary first."""

    first: int
    last: int
    nodes: tuple[Node, ...]


class ClusterPrimary(_Asked):
    """Every node of the cluster knows who has the slot of the keys."""

    def __init__(self, seeds: Sequence[Node], prefix: str, open_node: OpenNode) -> None:
        """Prepare.

        Args:
            seeds: Some nodes, one of which answers.
            prefix: Of the keys; its hash tag decides the slot.
            open_node: How a node is asked.
        """
        super().__init__()
        self._seeds = seeds
        self._slot = key_slot(prefix.encode())
        self._open_node = open_node
        self._nodes = deque(seeds)

    def doubt(self, generation: int) -> None:
        """The same, and ask another node next time: who was wrong may not have heard yet."""
        if generation == self.generation:
            self._nodes.rotate(-1)
        super().doubt(generation)

    async def _ask(self) -> Node:
        problem: Exception | None = None
        for node in tuple(self._nodes):
            try:
                shards = await self._shards(node)
            except (RedisError, OSError) as e:  # TimeoutError is one
                problem = e
                self._nodes.rotate(-1)
                continue
            for shard in shards:
                if shard.first <= self._slot <= shard.last:
                    self._remember(shards)
                    return shard.nodes[0]
            problem = ConnectionError("no node of the cluster has the slot of the keys")
            self._nodes.rotate(-1)
        raise ConnectionError(f"no node of the cluster says who is in charge: {problem}") from problem

    async def _shards(self, node: Node) -> list[_Shard]:
        client: Any = self._open_node(node)
        try:
            told = parse_cluster_slots(await client.execute_command("CLUSTER SLOTS"), current_host=node[0])
        finally:
            await client.aclose()
        return [
            _Shard(first, last, (_node(servers["primary"]), *map(_node, servers["replicas"])))
            for (first, last), servers in told.items()
        ]

    def _remember(self, shards: Sequence[_Shard]) -> None:
        """Nodes come and go, those of the URL too; who answered stays first."""
        known = [self._nodes[0], *(node for shard in shards for node in shard.nodes), *self._seeds]
        self._nodes = deque(dict.fromkeys(known))


def _node(told: Sequence[Any]) -> Node:
    return str(told[0]), int(told[1])
