"""Time that passes at once: everything that is stored becomes older."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import pytest
from redis.asyncio import Redis

from sred_email_consumer import sends, settlement
from sred_email_consumer.loops import stream_consumer
from sred_email_core.queue.keys import GROUP, QueueKeys

_OLDER_IN_REDIS = """
local ms, group = tonumber(ARGV[1]), ARGV[2]
for _, zset in ipairs({KEYS[4], KEYS[5], KEYS[7]}) do
  local members = redis.call('ZRANGE', zset, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    redis.call('ZADD', zset, tonumber(members[i + 1]) - ms, members[i])
  end
end
for lane = 1, 3 do
  local pending = redis.pcall('XPENDING', KEYS[lane], group, '-', '+', 10000)
  if not pending.err then
    for _, entry in ipairs(pending) do
      local id, owner, idle, deliveries = entry[1], entry[2], entry[3], entry[4]
      redis.call('XCLAIM', KEYS[lane], group, owner, 0, id, 'IDLE', idle + ms, 'RETRYCOUNT', deliveries, 'JUSTID')
    end
  end
end
for _, field in ipairs({'until', 'set', 'served_since', 'since', 'probe_at', 'probed_at', 'scouted'}) do
  local at = redis.call('HGET', KEYS[6], field)
  if at then
    redis.call('HSET', KEYS[6], field, tonumber(at) - ms)
  end
end
local domains = redis.call('HGETALL', KEYS[8])
for i = 1, #domains, 2 do
  local due, why = string.match(domains[i + 1], '^(%d+) (.*)$')
  redis.call('HSET', KEYS[8], domains[i], (tonumber(due) - ms) .. ' ' .. why)
end
"""

_TIMES = """
SELECT table_name, array_agg(column_name::text) AS columns
FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
  AND table_name <> 'email_schema_migrations'
GROUP BY table_name
"""


class Clock:
    """Seconds that go by as they always do, and faster when told."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._clock_gettime: Callable[[int], float] = time.clock_gettime

    def monotonic(self) -> float:
        """Seconds, of time.monotonic."""
        return time.monotonic() + self.ahead_s

    def gettime(self, clock: int) -> float:
        """Seconds of any clock, of time.clock_gettime."""
        return self._clock_gettime(clock) + self.ahead_s


@dataclass(frozen=True, slots=True)
class Chance:
    """Stands in for the module ``random``: draws the same each time, so that a run takes the same steps each time."""

    drawn: float

    def random(self) -> float:
        """Of a draw from [0, 1)."""
        return self.drawn


def take_over_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Make the services go by a clock, and leave nothing to chance; their pauses between two tries are short."""
    monkeypatch.setattr(time, "clock_gettime", clock.gettime)
    monkeypatch.setattr(stream_consumer, "time", clock)
    monkeypatch.setattr(settlement, "random", Chance(0.5))
    monkeypatch.setattr(settlement, "_CONTENDED_PAUSE_S", 0.01)
    monkeypatch.setattr(sends, "random", Chance(-0.4))


class PassingTime:
    """Makes everything stored older, in PostgreSQL and in Redis, and moves the clock of those who remember."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, keys: QueueKeys, clock: Clock) -> None:
        self._pool = pool
        self._redis = redis
        self._consumers = keys.consumers
        self._keys = [*keys.streams, keys.retry, keys.consumers, keys.dispatch, keys.grants, keys.domains]
        self._older_in_redis = redis.register_script(_OLDER_IN_REDIS)
        self._older_in_postgres = ""
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        """Let time pass."""
        if not self._older_in_postgres:
            self._older_in_postgres = "; ".join(
                f"UPDATE {row['table_name']} SET "  # noqa: S608 - the schema's own names
                + ", ".join(f"{column} = {column} - interval '%(s)f s'" for column in row["columns"])
                for row in await self._pool.fetch(_TIMES)
            )
        await self._pool.execute(self._older_in_postgres % {"s": seconds})
        await self._older_in_redis(keys=self._keys, args=[round(seconds * 1000), GROUP])
        if await self._redis.zcard(self._consumers):  # a consumer that is none was heard all the time: Redis was there
            seconds_now, micros = await self._redis.time()
            await self._redis.zadd(self._consumers, {"heard": int(seconds_now) * 1000 + int(micros) // 1000})
        self._clock.ahead_s += seconds
