"""How full the queue is, told in one cheap round trip."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What the queue holds.

    Attributes:
        in_flight: Emails that have a place in Redis.
        memory: Share of Redis' maxmemory that is used; None: it has none, or does not say.
    """

    in_flight: int
    memory: float | None


class QueueCapacity:
    """Reads how full the queue is; it changes nothing."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(self) -> QueueLoad:
        """How full it is now.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.hlen(self._keys.places)
        pipe.info("memory")
        try:
            in_flight, memory = await pipe.execute(raise_on_error=False)
            if isinstance(in_flight, Exception):
                raise in_flight
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e
        return QueueLoad(int(in_flight), memory_share(memory) if isinstance(memory, dict) else None)


def memory_share(memory: dict[str, Any]) -> float | None:
    """The share of maxmemory that is used.

    Args:
        memory: The section ``memory`` of INFO.

    Returns:
        More than 1 when it is full beyond the limit; None: there is no limit.
    """
    limit = int(memory.get("maxmemory", 0))
    # What Redis itself leaves out when it decides whether it is full: buffers for replicas and for the AOF.
    counted = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    return counted / limit if limit > 0 else None
