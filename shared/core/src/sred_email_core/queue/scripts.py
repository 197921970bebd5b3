"""A typed face over the Lua scripts: every move in Redis is one of these calls."""

import importlib.resources
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError, ResponseError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import GROUP, Lane, QueueKeys

_T = TypeVar("_T")

_CHUNK = 100
"""Emails in one call of a script: bounds how long Redis is blocked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream entry that this consumer owns.

    Attributes:
        lane: The stream it is on.
        entry_id: Its id there.
        fields: Names and values, as they are.
    """

    lane: Lane
    entry_id: str
    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one call of take gave.

    Attributes:
        held: Nothing may be sent before ``wait`` is over, whatever comes.
        wait: Until asking again may give more; None: nothing is known to come.
        repeats: For each send to be repeated, the id of its first email.
        entries: New work, highest lane first.
    """

    held: bool
    wait: timedelta | None
    repeats: list[str]
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Finished:
    """An email whose entry needs nothing more."""

    lane: Lane
    entry_id: str
    email_id: str


@dataclass(frozen=True, slots=True)
class Parked:
    """An email that leaves its entry to wait alone in the retry set."""

    lane: Lane
    entry_id: str
    email_id: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class ParkedInSend:
    """An email whose place from now on is a send that waits for its repeat.

    Attributes:
        first_email_id: The send's member in the retry set.
        email_id: This email.
        delay: Until the send is due.
        lane: Of the entry that it leaves; None: it leaves none.
        entry_id: That entry's id.
    """

    first_email_id: str
    email_id: str
    delay: timedelta
    lane: Lane | None = None
    entry_id: str = ""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What one call of promote did.

    Attributes:
        moved: Emails that went back to their streams.
        examined: Members that were due.
        next_due: Until the next member is due; None: none waits.
    """

    moved: int
    examined: int
    next_due: timedelta | None


class QueueScripts:
    """The scripts in ``lua/``, each described in its own header.

    Every method raises QueueUnavailableError when Redis does not answer; whether the move took place is then unknown,
    and repeating it is safe.
    """

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys
        folder = importlib.resources.files("sred_email_core.queue") / "lua"
        self._scripts: dict[str, AsyncScript] = {
            file.name.removesuffix(".lua"): redis.register_script(file.read_text())
            for file in folder.iterdir()
            if file.name.endswith(".lua")
        }

    async def publish(self, emails: Sequence[tuple[Lane, str, bytes]]) -> int:
        """Put emails, as (lane, email id, message), on their streams unless they have a place; how many were put."""
        keys = [*self._keys.streams, self._keys.places, self._keys.doorbell]
        published = 0
        for chunk in _chunks(emails):
            published += await self._run(
                "publish", keys, [part for lane, *rest in chunk for part in (int(lane), *rest)]
            )
        return published

    async def take(self, consumer: str, *, slots: int, requests_per_second: float, claim_idle: timedelta) -> Taken:
        """Take work for free slots, with the grants to send it.

        Args:
            consumer: Name in the group.
            slots: The most sends to take; 1 or more.
            requests_per_second: Limit over all replicas; 0: none.
            claim_idle: After which a repeat that nobody settles is due again.
        """
        limit, window_ms = grant_window(requests_per_second)
        keys = self._keys
        held, wait_ms, repeats, entries = await self._run(
            "take",
            [*keys.streams, keys.retry, keys.places, keys.grants, keys.dispatch, keys.doorbell],
            [GROUP, consumer, slots, limit, window_ms, _ms(claim_idle)],
        )
        return Taken(
            held=bool(held),
            wait=timedelta(milliseconds=wait_ms) if wait_ms else None,
            repeats=[email_id.decode("utf-8", "replace") for email_id in repeats],
            entries=[
                Entry(Lane(lane), entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
                for lane, entry_id, flat in entries
            ],
        )

    async def reclaim(self, consumer: str, lane: Lane, *, idle: timedelta, cursor: str, most: int) -> tuple[str, int]:
        """Put entries that their consumer has not finished in time back on their stream.

        Args:
            consumer: Who does it.
            lane: The stream.
            idle: Since they were taken; longer than any attempt.
            cursor: Where an earlier call stopped; ``0-0``: from the start.
            most: Entries to look at.

        Returns:
            The cursor to go on from, ``0-0`` at the end, and how many were put back.
        """
        keys = [self._keys.stream(lane), self._keys.places, self._keys.doorbell]
        next_cursor, moved = await self._run("reclaim", keys, [GROUP, consumer, _ms(idle), cursor, most, int(lane)])
        return next_cursor.decode(), moved

    async def finish(self, consumer: str, emails: Sequence[Finished]) -> int:
        """Take emails off their streams; how many were still the caller's."""
        return await self._move(
            "finish", [self._keys.places], consumer, [(int(e.lane), e.entry_id, e.email_id) for e in emails]
        )

    async def finish_sends(self, emails: Sequence[tuple[str, str]]) -> None:
        """Forget sends, told as (email id, first email id of its send), in the retry set and the places."""
        for chunk in _chunks(emails):
            await self._run(
                "finish_sends", [self._keys.retry, self._keys.places], [part for pair in chunk for part in pair]
            )

    async def park(self, consumer: str, emails: Sequence[Parked]) -> int:
        """Move emails from their streams to the retry set; how many were still the caller's."""
        return await self._move(
            "park",
            [self._keys.retry, self._keys.places, self._keys.parked],
            consumer,
            [(int(e.lane), e.entry_id, e.email_id, _ms(e.delay)) for e in emails],
        )

    async def park_sends(self, consumer: str, emails: Sequence[ParkedInSend]) -> None:
        """Give sends to be repeated their place in the retry set; the caller holds their leases."""
        await self._move(
            "park_sends",
            [self._keys.retry, self._keys.places, self._keys.doorbell],
            consumer,
            [(e.first_email_id, _ms(e.delay), e.email_id, int(e.lane or 0), e.entry_id) for e in emails],
        )

    async def promote(self, most: int) -> Promoted:
        """Move parked emails that have come due back onto their streams."""
        keys = self._keys
        moved, examined, next_due_ms = await self._run(
            "promote", [*keys.streams, keys.retry, keys.places, keys.parked, keys.doorbell], [most]
        )
        return Promoted(moved, examined, timedelta(milliseconds=next_due_ms) if next_due_ms >= 0 else None)

    async def bury(
        self,
        consumer: str,
        *,
        dead_letter_id: str,
        fields: dict[bytes, bytes],
        email_id: str = "",
        source: tuple[Lane, str] | None = None,
    ) -> None:
        """Show a dead letter in the DLQ, once.

        Args:
            consumer: Who asks.
            dead_letter_id: Id in PostgreSQL, where the letter already is.
            fields: Of the DLQ entry.
            email_id: Of its email; empty: it has none.
            source: Lane and id of the stream entry that ends with it; None: none.
        """
        keys = self._keys
        lane, entry_id = source if source is not None else (0, "")
        args: list[Any] = [GROUP, consumer, int(lane), entry_id, email_id, dead_letter_id]
        args += [part for pair in fields.items() for part in pair]
        await self._run("bury", [*keys.streams, keys.places, keys.dlq, keys.letters], args)

    async def unbury(self, dead_letter_ids: Sequence[str]) -> None:
        """Take dead letters out of the DLQ."""
        for chunk in _chunks(dead_letter_ids):
            await self._run("unbury", [self._keys.dlq, self._keys.letters], list(chunk))

    async def hold(self, state: str, reason: str, duration: timedelta) -> None:
        """Hold delivery for every replica; a longer hold that is in force stays."""
        await self._run("hold", [self._keys.dispatch], [state, reason, _ms(duration)])

    async def leave(self, consumer: str) -> None:
        """Remove a consumer from the groups where nothing is pending for it."""
        await self._run("leave", self._keys.streams, [GROUP, consumer])

    async def ensure_groups(self) -> None:
        """Create the streams and their group where they are missing: at 0, so that nothing on them is skipped."""
        for stream in self._keys.streams:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as e:
                if "BUSYGROUP" not in str(e):
                    raise QueueUnavailableError(f"Redis: {e}") from e
            except (RedisError, OSError) as e:
                raise QueueUnavailableError(f"Redis: {e}") from e

    async def _move(self, name: str, keys: list[str], consumer: str, emails: Sequence[tuple[Any, ...]]) -> int:
        moved = 0
        for chunk in _chunks(emails):
            flat = [part for email in chunk for part in email]
            moved += await self._run(name, [*self._keys.streams, *keys], [GROUP, consumer, *flat])
        return moved

    async def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:  # noqa: ANN401 - what Lua returns
        """Run a script; a group that is gone is created again and the script run once more."""
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
            raise QueueUnavailableError(f"Redis: {e}") from e


def grant_window(requests_per_second: float) -> tuple[int, int]:
    """Turn a rate into a window of the last N grants.

    Args:
        requests_per_second: 0 or more; 0: no limit.

    Returns:
        The most grants in a window, and the window in milliseconds: never shorter than N grants take at that rate,
        and 10 ms longer, because requests do not arrive as evenly as they were granted.
    """
    if requests_per_second <= 0:
        return 0, 0
    grants = max(1, int(requests_per_second))
    return grants, int(grants / requests_per_second * 1000) + 10


def _ms(duration: timedelta) -> int:
    return max(0, round(duration.total_seconds() * 1000))


def _chunks(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
