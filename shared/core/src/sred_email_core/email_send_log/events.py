"""The log as watchers read it: what happens to emails, in an order in which nothing is missed."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import EventsGoneError

_NO_SEQUENCE = 0


class Position(NamedTuple):
    """Where a watcher is: the place (a transaction) and the sequence of the last event that it was told."""

    place: int
    sequence: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One change in the life of an email.

    Attributes:
        position: Of this event.
        status: Of the email from then on.
        delivery: What the provider had told of it by then; None: nothing.
        attempt: Attempts by then.
    """

    position: Position
    email_id: uuid.UUID
    status: str
    delivery: str | None
    at: datetime
    attempt: int
    reason: str | None
    provider_message_id: str | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events.

    Attributes:
        events: In order for each email.
        after: From where to go on.
        more: There are more that can be told now.
    """

    events: list[EventRecord]
    after: Position
    more: bool


@dataclass(frozen=True, slots=True)
class WatchStart:
    """Where a watch begins.

    Attributes:
        position: From where to read.
        states: The present state of each email that was named and exists, told as an event, in the order of the names.
        shown: Sequence of the last event that is in the state of each.
    """

    position: Position
    states: dict[uuid.UUID, EventRecord]
    shown: dict[uuid.UUID, int]


@dataclass(frozen=True, slots=True)
class TimelineRecord:
    """One thing that happened to an email.

    Attributes:
        what: ACCEPTED, ATTEMPT_FAILED, SENT and the like.
        status: Of the email from then on.
        consumer: Name of the consumer that did it; None: none did.
    """

    at: datetime
    what: str
    status: str
    attempt: int
    reason: str | None
    provider_message_id: str | None
    delivery: str | None
    consumer: str | None


class EventLog:
    """Reads events. Every method raises LogUnavailableError when PostgreSQL does not answer.

    The statement that changes an email writes the event. Events are read only where no older transaction runs any more
    that could still write one: so a watcher can be as far behind as the longest transaction of the whole server.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def begin(self, email_ids: Sequence[uuid.UUID]) -> WatchStart:
        """Where a watch that begins now is to read from, and the present state of these emails, in one snapshot."""
        rows = await self._fetch("begin_watch", list(email_ids))
        position = Position(rows[0]["settled"], _NO_SEQUENCE)
        found = [row for row in rows if row["id"] is not None]
        states = {row["id"]: _state(row, position) for row in found}
        return WatchStart(
            position,
            {i: states[i] for i in email_ids if i in states},
            {row["id"]: row["sequence"] or _NO_SEQUENCE for row in found},
        )

    async def page(self, after: Position, *, size: int, email_ids: Sequence[uuid.UUID] | None = None) -> EventPage:
        """The next events that can be told.

        Args:
            after: The last one told.
            size: The most to return.
            email_ids: Only of these; None: of all.

        Raises:
            EventsGoneError: Events after that position may have been pruned, or it is another database's.
        """
        rows = await self._fetch(
            *(
                ("events_of_all", after.place, after.sequence, size)
                if email_ids is None
                else ("events_of_emails", after.place, after.sequence, size, list(email_ids))
            )
        )
        told = rows[0]
        if not told["mark"] <= after.place <= told["next"]:
            raise EventsGoneError
        events = [_event(row) for row in rows if row["email_id"] is not None]
        if len(events) == size:
            return EventPage(events, events[-1].position, more=True)
        through = max(Position(told["until"], _NO_SEQUENCE), events[-1].position if events else after)
        return EventPage(events, through, more=told["until"] < told["settled"])

    async def settled(self, since: int) -> tuple[int, bool]:
        """Up to where events can be told now, and whether there are any since the last look.

        Args:
            since: What the last look returned.
        """
        (row,) = await self._fetch("look_for_events", since)
        return row["settled"], row["any_new"]

    async def touched(self, email_ids: Sequence[uuid.UUID], *, since: int, until: int) -> list[uuid.UUID]:
        """Those emails that have events between two looks."""
        return [row["email_id"] for row in await self._fetch("emails_with_events", list(email_ids), since, until)]

    async def timeline(self, email_id: uuid.UUID) -> list[TimelineRecord]:
        """What happened to an email, the earliest first; empty: there is no such email."""
        return [TimelineRecord(**row) for row in await self._fetch("get_timeline", email_id)]

    async def _fetch(self, name: str, *args: object) -> "list[asyncpg.Record]":
        return await postgres.run(lambda: self._pool.fetch(query(name), *args))


def _event(row: asyncpg.Record) -> EventRecord:
    return EventRecord(
        position=Position(row["place"], row["sequence"]),
        email_id=row["email_id"],
        status=row["status"],
        delivery=row["delivery"] or ("SENT" if row["status"] == "SUCCESS" else None),
        at=row["at"],
        attempt=row["attempt"],
        reason=row["reason"],
        provider_message_id=row["provider_message_id"],
    )


def _state(row: asyncpg.Record, position: Position) -> EventRecord:
    return EventRecord(
        position=position,
        email_id=row["id"],
        status=row["status"],
        delivery=row["delivery"],
        at=row["updated_at"],
        attempt=row["attempts"],
        reason=row["last_error"],
        provider_message_id=row["provider_message_id"],
    )
