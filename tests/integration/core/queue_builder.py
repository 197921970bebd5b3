"""Emails in Redis, put there the way the services do it, and what the scripts made of them."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError  # noqa: A004 - as it is named there

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.queue.codec import QueuedEmail, encode
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.keys import GROUP, ORPHANS, Lane, QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import Entry, Finished, Parked, ParkedInSend, QueueScripts, Taken, Wish

_SETTLED = """#!lua flags=allow-oom
redis.call('HSETNX', KEYS[1], 'version', 1)
if ARGV[1] == '1' then
  redis.call('HSETNX', KEYS[2], 'provider_limit', 0)
end
"""
"""Consumers have been at work: the pauses are copied, and it is known that the provider names no limit."""

ME, OTHER = "me", "other"
NOW = timedelta()
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def new_id() -> str:
    """The id of an email that is nowhere yet."""
    return str(uuid.uuid4())


def queued(lane: Lane = Lane.NORMAL, email_id: str | None = None, **fields: Any) -> QueuedEmail:
    """An email on its way to its stream."""
    email_id = email_id or new_id()
    values: dict[str, Any] = {
        "kind": "WELCOME",
        "accepted_at": datetime(2026, 1, 2, tzinfo=UTC),
        "expire_at": None,
        "content": EmailContent(subject=f"for {email_id}\n\x00"),
        "alone": False,
        "size_bytes": 100,
        **fields,
    }
    return QueuedEmail(email_id=email_id, lane=lane, **values)


def id_of(entry: Entry) -> str:
    """The email of an entry."""
    return entry.fields[b"email_id"].decode()


def ids_of(entries: Sequence[Entry]) -> list[str]:
    """The emails of entries."""
    return [id_of(entry) for entry in entries]


def entries_of(taken: Taken) -> list[Entry]:
    """All new work, whatever requests it goes in."""
    return [entry for request in taken.requests for entry in request]


def requests_of(taken: Taken) -> list[list[str]]:
    """The emails of each request."""
    return [ids_of(request) for request in taken.requests]


def in_send(first: str, *entries: Entry, delay: timedelta = NOW) -> list[ParkedInSend]:
    """Emails that leave their entries for a send; without any, the first alone, which leaves none."""
    if not entries:
        return [ParkedInSend(first, first, delay)]
    return [ParkedInSend(first, id_of(entry), delay, entry.lane, entry.entry_id) for entry in entries]


class Queue:
    """The scripts, and what they did to Redis."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self.redis: Any = redis  # its annotations do not know that this client answers in bytes
        self.keys = keys
        self.runner = ScriptRunner(redis, keys)
        self.scripts = QueueScripts(self.runner, keys)
        self.dispatch = DispatchScripts(self.runner, keys)

    async def publish(self, *lanes: Lane, **fields: Any) -> list[str]:
        """Put one new email on each of these lanes; their ids."""
        emails = [queued(lane, **fields) for lane in lanes]
        assert await self.scripts.publish(emails) == len(emails)
        return [email.email_id for email in emails]

    async def take(
        self,
        slots: int = 10,
        *,
        consumer: str = ME,
        rate: float = 0,
        claim_idle: timedelta = HOUR,
        batch_size: int = 1,
        limit_known: bool = True,
        **wish: Any,
    ) -> Taken:
        """Ask for work; without a limit and without batches unless told."""
        with suppress(ConnectionError):
            await self.redis.eval(_SETTLED, 2, self.keys.pauses, self.keys.dispatch, int(limit_known))
        return await self.scripts.take(
            consumer,
            Wish(slots=slots, requests_per_second=rate, claim_idle=claim_idle, batch_size=batch_size, **wish),
        )

    async def taken(self, *lanes: Lane, consumer: str = ME, **fields: Any) -> list[Entry]:
        """Publish one email on each lane and take them, each alone."""
        await self.publish(*lanes, **fields)
        return entries_of(await self.take(1000, consumer=consumer))

    async def steal(self, *entries: Entry, owner: str = OTHER) -> None:
        """Let another claim entries, without counting it as anything."""
        for entry in entries:
            await self.redis.xclaim(self.keys.stream(entry.lane), GROUP, owner, 0, [entry.entry_id], justid=True)

    async def orphan(self, *entries: Entry, deaths: int = 0) -> None:
        """Let entries be orphans whose owners have died so often."""
        for entry in entries:
            stream = self.keys.stream(entry.lane)
            await self.redis.xclaim(stream, GROUP, ORPHANS, 0, [entry.entry_id], retrycount=deaths + 1, justid=True)

    async def grow_old(self, *entries: Entry, by: timedelta) -> None:
        """Let it be so long since entries were taken."""
        for entry in entries:
            stream, ids = self.keys.stream(entry.lane), [entry.entry_id]
            (pending,) = await self.redis.xpending_range(stream, GROUP, entry.entry_id, entry.entry_id, 1)
            ms = int(by.total_seconds() * 1000)
            await self.redis.xclaim(stream, GROUP, pending["consumer"], 0, ids, idle=ms, justid=True)

    async def fall_silent(self, consumer: str, since: timedelta) -> None:
        """Let it be so long since a consumer gave a sign of life."""
        await self.redis.zadd(self.keys.consumers, {consumer: await self.now_ms() - since.total_seconds() * 1000})

    async def park(self, entries: Sequence[Entry], delay: timedelta, *, consumer: str = ME, alone: bool = False) -> int:
        """Move the emails of entries to the retry set."""
        return await self.scripts.park(
            consumer, [Parked(entry.lane, entry.entry_id, id_of(entry), delay, alone) for entry in entries]
        )

    async def park_send(self, first: str, *entries: Entry, delay: timedelta = NOW, entitled: bool = True) -> None:
        """Let a send wait for its repeat."""
        await self.scripts.park_sends(ME, in_send(first, *entries, delay=delay), entitled=entitled)

    async def finish(self, entries: Sequence[Entry], *, consumer: str = ME) -> int:
        """Take the emails of entries off their streams."""
        return await self.scripts.finish(
            consumer, [Finished(entry.lane, entry.entry_id, id_of(entry)) for entry in entries]
        )

    async def now_ms(self) -> int:
        """By the clock that the scripts use."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def place(self, email_id: str) -> str | None:
        """Where an email is said to be."""
        place = await self.redis.hget(self.keys.places, email_id)
        return None if place is None else place.decode()

    async def due_in(self, email_id: str) -> timedelta | None:
        """When a member of the retry set is due, from now."""
        score = await self.redis.zscore(self.keys.retry, email_id)
        return None if score is None else timedelta(milliseconds=score - await self.now_ms())

    async def pending(self, lane: Lane) -> dict[str, str]:
        """Owner of each entry that was taken and not finished."""
        found = await self.redis.xpending_range(self.keys.stream(lane), GROUP, "-", "+", 1000)
        return {entry["message_id"].decode(): entry["consumer"].decode() for entry in found}

    async def deaths(self, entry: Entry) -> int:
        """How often an owner of a pending entry has died."""
        stream = self.keys.stream(entry.lane)
        (pending,) = await self.redis.xpending_range(stream, GROUP, entry.entry_id, entry.entry_id, 1)
        return int(pending["times_delivered"]) - 1

    async def lengths(self) -> list[int]:
        """Of the three streams."""
        return [await self.redis.xlen(stream) for stream in self.keys.streams]

    async def members(self, lane: Lane) -> list[str]:
        """The consumers that the group of a stream knows."""
        found = await self.redis.xinfo_consumers(self.keys.stream(lane), GROUP)
        return sorted(member["name"].decode() for member in found)

    async def rings(self) -> bool:
        """Whether the doorbell rang since the last time it was asked."""
        return bool(await self.redis.delete(self.keys.doorbell))

    async def snapshot(self) -> dict[bytes, Any]:
        """Everything in Redis but the signs of life, to see that nothing was touched."""
        names = sorted(await self.redis.keys())
        return {key: await self.redis.dump(key) for key in names if key != self.keys.consumers.encode()}


def message_of(email: QueuedEmail) -> dict[bytes, bytes]:
    """The fields of an email's entry."""
    return {b"email_id": email.email_id.encode(), b"hints": email.hints, b"message": encode(email)}
