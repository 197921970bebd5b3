"""What is in the queue, for people and dashboards."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import GROUP, ORPHANS, Lane, QueueKeys
from sred_email_core.queue.scripts import read_limit

_LONGEST_HOLD_MS = 32 * 24 * 60 * 60 * 1000
"""As in take.lua: a longer hold is none that we made."""
_REGAINED_MS = 60 * 1000
"""As in take.lua: until all of the limit is asked for again."""
_STOPPED = ("PROVIDER_DOWN", "MISCONFIGURED", "QUOTA_EXHAUSTED")
_MOST_DOMAINS = 5
"""Named one by one."""


@dataclass(frozen=True, slots=True)
class DispatchStatus:
    """What holds or slows delivery, for every replica.

    Attributes:
        state: Name of the DispatchState.
        reason: Why it is not RUNNING, or what slows it; empty: nothing.
        paused: Lanes whose delivery an operator has paused.
        provider_limit: Requests per second that the provider allows; None: it does not say.
        part_of_limit: Of the limit, what is asked for since the provider said that there were too many; 1: all of it.
        since: When the provider stopped it; None: it did not.
    """

    state: str
    reason: str
    paused: frozenset[Lane] = frozenset()
    provider_limit: float | None = None
    part_of_limit: float = 1
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One stream.

    Attributes:
        lane: Which.
        waiting: Entries that nobody has taken, or that came back because their consumer died or stopped.
        in_flight: Entries that a consumer has taken and not finished.
        oldest_waiting: Age of the oldest that waits; None: none waits.
    """

    lane: Lane
    waiting: int
    in_flight: int
    oldest_waiting: timedelta | None


@dataclass(frozen=True, slots=True)
class ConsumerStats:
    """One consumer: what it holds, and how long ago it gave a sign of life, the one that recovery goes by."""

    name: str
    in_flight: int
    idle: timedelta


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Everything at one moment.

    Attributes:
        lanes: Highest first.
        retry_scheduled: Members of the retry set that are not due.
        retry_due: Members that are.
        consumers: By name.
        dispatch: What holds or slows delivery.
    """

    lanes: list[LaneStats]
    retry_scheduled: int
    retry_due: int
    consumers: list[ConsumerStats]
    dispatch: DispatchStatus


class QueueInspector:
    """Reads the queue in two round trips; it changes nothing."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(self) -> QueueStats:
        """What is there now.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        try:
            return await self._read()
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e

    async def count_letters(self) -> int:
        """How many dead letters the DLQ shows.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        try:
            return int(await self._redis.xlen(self._keys.dlq))
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e

    async def read_dispatch(self) -> DispatchStatus:
        """What holds or slows delivery.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        for key in (self._keys.dispatch, self._keys.pauses, self._keys.domains):
            pipe.hgetall(key)
        try:
            (seconds, micros), dispatch, pauses, domains = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as e:
            raise QueueUnavailableError(f"Redis: {e}") from e
        return _dispatch_status(dispatch, pauses, domains, int(seconds) * 1000 + int(micros) // 1000)

    async def _read(self) -> QueueStats:
        seconds, micros = await self._redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        pipe = self._redis.pipeline(transaction=False)
        pipe.zcard(self._keys.retry)
        pipe.zcount(self._keys.retry, "-inf", now_ms)
        pipe.hgetall(self._keys.dispatch)
        pipe.hgetall(self._keys.pauses)
        pipe.hgetall(self._keys.domains)
        pipe.zrangebyscore(self._keys.consumers, "-inf", "+inf", withscores=True)
        for stream in self._keys.streams:
            pipe.xlen(stream)
            pipe.xpending(stream, GROUP)
            pipe.xinfo_groups(stream)
            pipe.xinfo_consumers(stream, GROUP)
            pipe.xpending_range(stream, GROUP, "-", "+", 1, ORPHANS)
        scheduled, due, dispatch, pauses, domains, signs, *streams = await pipe.execute(raise_on_error=False)
        for answer in (scheduled, due, dispatch, pauses, domains, signs):
            if isinstance(answer, Exception):
                raise answer
        lanes: list[LaneStats] = []
        heard = {_text(name): timedelta(milliseconds=max(0, now_ms - score)) for name, score in signs}
        consumers = {name: ConsumerStats(name, 0, idle) for name, idle in heard.items()}
        for index, lane in enumerate(Lane):
            length, pending, groups, members, orphans = streams[index * 5 : index * 5 + 5]
            oldest_orphan = next((_text(o["message_id"]) for o in _unless_missing(orphans, [])), None)
            lanes.append(await self._lane(lane, length, pending, groups, oldest_orphan, now_ms))
            for member in _unless_missing(members, []):
                if _text(member["name"]) != ORPHANS:
                    _merge(consumers, member, heard)
        return QueueStats(
            lanes=lanes,
            retry_scheduled=scheduled - due,
            retry_due=due,
            consumers=[consumers[name] for name in sorted(consumers)],
            dispatch=_dispatch_status(dispatch, pauses, domains, now_ms),
        )

    async def _lane(
        self,
        lane: Lane,
        length: Any,  # noqa: ANN401 - Redis' answers
        pending: Any,  # noqa: ANN401 - the same
        groups: Any,  # noqa: ANN401 - the same
        oldest_orphan: str | None,
        now_ms: int,
    ) -> LaneStats:
        summary = _unless_missing(pending, {"pending": 0, "consumers": []})
        orphans = sum(int(c["pending"]) for c in summary["consumers"] if _text(c["name"]) == ORPHANS)
        in_flight = int(summary["pending"]) - orphans
        last_id = next(
            (g["last-delivered-id"] for g in _unless_missing(groups, []) if _text(g["name"]) == GROUP), b"0-0"
        )
        waiting = max(0, int(_unless_missing(length, 0)) - in_flight)
        oldest_id = oldest_orphan
        if waiting and oldest_id is None:
            entries = await self._redis.xrange(self._keys.stream(lane), min=f"({_text(last_id)}", count=1)
            oldest_id = _text(entries[0][0]) if entries else None
        oldest = None
        if oldest_id is not None:
            oldest = timedelta(milliseconds=max(0, now_ms - int(oldest_id.split("-")[0])))
        return LaneStats(lane, waiting, in_flight, oldest)


def _unless_missing(answer: Any, default: Any) -> Any:  # noqa: ANN401 - Redis' answers
    """The answer; the default where the stream or its group does not exist yet."""
    if isinstance(answer, ResponseError):
        return default
    if isinstance(answer, Exception):
        raise answer
    return answer


def _merge(consumers: dict[str, ConsumerStats], member: dict[str, Any], heard: dict[str, timedelta]) -> None:
    """Add what a consumer holds of one stream; of one that gave no sign of life, what it did last is what there is."""
    name = _text(member["name"])
    idle = timedelta(milliseconds=int(member["idle"]))
    before = consumers.get(name, ConsumerStats(name, 0, idle))
    idle = heard.get(name, min(before.idle, idle))
    consumers[name] = ConsumerStats(name, before.in_flight + int(member["pending"]), idle)


def _dispatch_status(
    dispatch: dict[bytes, bytes], pauses: dict[bytes, bytes], domains: dict[bytes, bytes], now_ms: int
) -> DispatchStatus:
    state = _text(dispatch.get(b"state", b"RUNNING"))
    reasons = [_text(dispatch.get(b"reason", b""))]
    stopped = state in _STOPPED
    if not stopped:
        state, reasons = "RUNNING", []
    paused = frozenset(lane for lane in Lane if str(int(lane)).encode() in pauses)
    if paused == frozenset(Lane):
        beneath = [f"{state}: {reasons[0]}"] if reasons else []
        state, reasons = "PAUSED", [_text(pauses[str(int(Lane.HIGH)).encode()]), *beneath]
    try:
        until_ms = float(dispatch.get(b"until", b"0"))
    except ValueError:
        until_ms = 0.0
    if now_ms < until_ms < now_ms + _LONGEST_HOLD_MS:
        seconds = (until_ms - now_ms) / 1000
        reasons.append(f"held for {seconds:.1f} s: {_text(dispatch.get(b'hold_reason', b''))}")
    for domain, told in sorted(domains.items())[:_MOST_DOMAINS]:
        reasons.append(f"emails from {_text(domain)} wait: {_text(told).partition(' ')[2]}")
    if len(domains) > _MOST_DOMAINS:
        reasons.append(f"and emails from {len(domains) - _MOST_DOMAINS} more domains")
    part = _part_of_limit(dispatch, now_ms)
    if part < 1:
        reasons.append(f"{part:.0%} of the limit is asked for: the provider said that there were too many requests")
    reason = "; ".join(reason for reason in reasons if reason)
    return DispatchStatus(
        state,
        reason,
        paused,
        read_limit(dispatch.get(b"provider_limit", b"")),
        part,
        _since(dispatch, now_ms) if stopped else None,
    )


def _since(dispatch: dict[bytes, bytes], now_ms: int) -> datetime | None:
    """When the provider stopped delivery; None: that can't be read."""
    try:
        since_ms = int(dispatch.get(b"since", b""))
    except ValueError:
        return None
    return datetime.fromtimestamp(since_ms / 1000, UTC) if 0 < since_ms <= now_ms else None


def _part_of_limit(dispatch: dict[bytes, bytes], now_ms: int) -> float:
    part, since_ms = read_limit(dispatch.get(b"part", b"")), read_limit(dispatch.get(b"part_since", b""))
    if part is None or since_ms is None or since_ms > now_ms:
        return 1
    return min(1, part + (now_ms - since_ms) / _REGAINED_MS)


def _text(value: Any) -> str:  # noqa: ANN401 - Redis' answers
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
