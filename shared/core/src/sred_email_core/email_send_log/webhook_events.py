"""The log as it keeps what the provider tells, and brings the emails into line with it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query
from sred_email_core.email_send_log.suppressions import suppression_columns

PATIENCE = timedelta(days=1)
"""With an event that can't be worked, or whose email is not known: then it is given up."""
REMEMBERED = timedelta(days=30)
"""For so long an event that is delivered again is known."""


class WebhookEvent(NamedTuple):
    """An authentic event; its fields are in the order of the parameters of store_webhook_events.

    Attributes:
        svix_id: The same for each delivery of this event.
        delivery: Name of the DeliveryState that it tells.
        email_id: From the tags; None: they name none.
        provider_message_id: The provider's id of the email; None: it does not say.
        occurred_at: By the provider's clock; None: it does not say.
        detail: The provider's words, for people.
        suppress: The address (normalised) that is to get no more email; None: none.
        suppress_reason: Name of the SuppressionReason.
    """

    svix_id: str
    delivery: str
    email_id: uuid.UUID | None
    provider_message_id: str | None
    occurred_at: datetime | None = None
    detail: str | None = None
    suppress: str | None = None
    suppress_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ClosedEmail:
    """An email that needs nothing more because of an event.

    Attributes:
        email_id: Its id.
        first_of_send: First email of the send that went with it; None: it was in none.
    """

    email_id: str
    first_of_send: str | None


@dataclass(slots=True)
class Worked:
    """What became of some events.

    Attributes:
        taken: How many were looked at.
        told: The email of each that is known, and what was told of it.
        closed: Ids of the emails that became SUCCESS by an event.
        finished: Those that need no place in Redis any more.
        letters: Ids of the dead letters that were resolved.
        suppressed: Whether the list of suppressions has changed.
        unknown: Events whose email is not known; they are tried again.
        given_up: Ids of those that were tried for long enough.
    """

    taken: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    finished: list[ClosedEmail] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    suppressed: bool = False
    unknown: int = 0
    given_up: list[str] = field(default_factory=list)


class WebhookLog:
    """Keeps events and works them; any process may work any event, each is worked once.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def store(self, events: Sequence[WebhookEvent]) -> list[bool]:
        """Keep events, durably; of each whether it was new."""
        columns = [[event[n] for event in events] for n in range(len(WebhookEvent._fields))]
        rows = await postgres.run(lambda: self._pool.fetch(query("store_webhook_events"), *columns))
        new = {row["svix_id"] for row in rows}
        results = []
        for event in events:
            results.append(event.svix_id in new)
            new.discard(event.svix_id)  # another delivery of the same event, in the same group
        return results

    async def work(self, *, size: int) -> Worked:
        """Work the events that have been due the longest, in one transaction.

        Args:
            size: The most.
        """
        return await postgres.run(lambda: self._work(size))

    async def postpone_first(self) -> list[str]:
        """Let the event that has been due the longest wait: it can't be worked; its id if it was given up."""

        async def postpone() -> list[str]:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(query("take_webhook_events"), 1)
                return await _postpone(connection, [row["svix_id"] for row in rows], suppressed=False)

        return await postgres.run(postpone)

    async def traceparents(self, email_ids: Sequence[str]) -> dict[str, str]:
        """The traces that emails belong to, of those that belong to one."""
        rows = await postgres.run(lambda: self._pool.fetch(query("get_traceparents"), list(email_ids)))
        return {str(row["id"]): row["traceparent"] for row in rows}

    async def lag(self) -> timedelta:
        """How long the event that has been due the longest has waited."""
        return await postgres.run(lambda: self._pool.fetchval(query("lag_of_webhook_events"))) or timedelta()

    async def _work(self, size: int) -> Worked:
        worked = Worked()
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(query("take_webhook_events"), size)
            worked.taken = len(rows)
            if not rows:
                return worked
            known = [row for row in rows if row["email_id"] is not None]
            if known:
                ids = sorted({row["email_id"] for row in known})
                await connection.fetch(query("lock_emails_and_siblings"), ids)
                await connection.fetch(query("lock_sends_of"), ids)
            for part in _each_email_once(known):
                _add(worked, await connection.fetch(query("record_deliveries"), *_delivery_columns(part)))
            worked.told = [(str(row["email_id"]), row["delivery"]) for row in known]
            worked.suppressed = await _suppress(connection, rows)
            unknown = [row["svix_id"] for row in rows if row["email_id"] is None]
            worked.unknown = len(unknown)
            if unknown:
                worked.given_up = await _postpone(connection, unknown, suppressed=True)
            await connection.execute(query("finish_webhook_events"), [row["svix_id"] for row in known])
        return worked


def _each_email_once(rows: Sequence[asyncpg.Record]) -> list[list[asyncpg.Record]]:
    """Events in parts, each with one event of an email at most: a statement can't see its own changes."""
    parts: list[list[asyncpg.Record]] = []
    seen: dict[uuid.UUID, int] = {}
    for row in rows:
        number = seen[row["email_id"]] = seen.get(row["email_id"], -1) + 1
        if number == len(parts):
            parts.append([])
        parts[number].append(row)
    return parts


def _delivery_columns(rows: Sequence[asyncpg.Record]) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in ("email_id", "delivery", "provider_message_id", "detail")]


def _add(worked: Worked, rows: Sequence[asyncpg.Record]) -> None:
    for row in rows:
        email_id = str(row["email_id"])
        first = row["first_of_send"]
        if row["closed"]:
            worked.closed.append(email_id)
        if row["finished"]:
            worked.finished.append(ClosedEmail(email_id, None if first is None else str(first)))
        if row["dead_letter_id"] is not None:
            worked.letters.append(str(row["dead_letter_id"]))


async def _suppress(connection: Any, rows: Sequence[asyncpg.Record]) -> bool:  # noqa: ANN401 - the pool's proxy
    """Suppress the addresses that events name; a complaint wins over a bounce told with it. Whether any was new."""
    told: dict[str, tuple[str, str, datetime | None]] = {}
    for row in sorted(rows, key=lambda row: row["suppress_reason"] == "COMPLAINED"):
        if row["suppress"] is not None:
            told[row["suppress"]] = (row["suppress"], row["suppress_reason"], row["occurred_at"])
    if not told:
        return False
    changed = await connection.fetch(query("suppress_addresses"), *suppression_columns(list(told.values()), "webhook"))
    return bool(changed)


async def _postpone(
    connection: Any,  # noqa: ANN401 - the pool's proxy
    svix_ids: Sequence[str],
    *,
    suppressed: bool,
) -> list[str]:
    rows = await connection.fetch(query("postpone_webhook_events"), svix_ids, PATIENCE, suppressed)
    return [row["svix_id"] for row in rows]
