"""What the log and Redis say when everything has come to rest."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from redis.exceptions import RedisError, ResponseError

from sred_email_core.queue.keys import GROUP
from support.world import ENDED, World

_POLL_S = 0.2
_TIMELINE = {
    "log": "SELECT to_jsonb(e) - 'message' - 'fingerprint' FROM email_send_log e WHERE id = $1::uuid",
    "event": "SELECT to_jsonb(e) FROM email_events e WHERE email_id = $1::uuid ORDER BY sequence",
    "dead letter": "SELECT to_jsonb(d) - 'raw_entry' FROM email_dead_letters d WHERE email_id = $1::uuid",
    "send": """
        SELECT to_jsonb(s) FROM email_sends s JOIN email_send_members m ON m.send_id = s.id
        WHERE m.email_id = $1::uuid
    """,
}


@dataclass(frozen=True, slots=True)
class Row:
    """An email as the log has it.

    Attributes:
        token: First word of its subject.
        accepted_at: Unix seconds.
        ended_at: When it was sent or changed last, Unix seconds.
        reason: Of its open dead letter; empty: it has none.
        may_have_been_accepted: As its dead letter says.
    """

    email_id: str
    key: str
    token: str
    status: str
    provider_id: str
    accepted_at: float
    ended_at: float
    reason: str
    may_have_been_accepted: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found.

    Attributes:
        rows: Every email of the log.
        leftovers: What should not be there any more, with its number or its members.
    """

    rows: list[Row]
    leftovers: dict[str, str] = field(default_factory=dict)


async def wait_for_ends(world: World, timeout_s: float) -> bool:
    """Wait until every email in the log has ended; whether they have in time."""

    async def open_emails() -> bool:
        sql = "SELECT NOT EXISTS (SELECT FROM email_send_log WHERE NOT status = ANY ($1::text[]))"
        return bool(await world.pool.fetchval(sql, list(ENDED)))

    return await _within(timeout_s, open_emails)


async def wait_for_rest(world: World, timeout_s: float) -> bool:
    """Wait until nothing is left in Redis, and log and Redis agree; whether that came in time."""

    async def at_rest() -> bool:
        return not await find_leftovers(world)

    return await _within(timeout_s, at_rest)


async def collect(world: World) -> Evidence:
    """Look at everything."""
    records = await world.pool.fetch(
        """
        SELECT e.id::text AS id, idempotency_key, subject, status, provider_message_id, created_at,
               COALESCE(sent_at, updated_at) AS ended_at, d.reason, d.may_have_been_accepted
        FROM email_send_log e
        LEFT JOIN email_dead_letters d ON d.email_id = e.id AND d.resolved_at IS NULL
        ORDER BY created_at
        """
    )
    return Evidence([_row(record) for record in records], await find_leftovers(world))


async def timeline(world: World, email_ids: list[str]) -> list[str]:
    """Everything that the log knows about some emails, a line for each thing."""
    return [
        f"{email_id} {what}: {line}"
        for email_id in email_ids
        for what, sql in _TIMELINE.items()
        for (line,) in await world.pool.fetch(sql, email_id)
    ]


async def find_leftovers(world: World) -> dict[str, str]:
    """What is left in Redis, and where log and Redis do not agree."""
    redis, keys = world.redis, world.keys
    found: dict[str, str] = {}
    for stream in keys.streams:
        found[f"entries in {stream}"] = str(await redis.xlen(stream) or "")
        found[f"pending in {stream}"] = str(await _pending(world, stream) or "")
    found["retry set"] = " ".join(await _texts(redis.zrange(keys.retry, 0, 9)))
    found["parked messages"] = " ".join((await _texts(redis.hkeys(keys.parked)))[:10])
    found["places"] = " ".join((await _texts(redis.hkeys(keys.places)))[:10])
    shown = set(await _texts(redis.hkeys(keys.letters)))
    shown_entries = await redis.xlen(keys.dlq)
    letters = await world.pool.fetch("SELECT id::text FROM email_dead_letters WHERE resolved_at IS NULL")
    kept = {letter["id"] for letter in letters}
    found["dead letters missing in the DLQ"] = " ".join(sorted(kept - shown)[:10])
    found["dead letters too many in the DLQ"] = " ".join(sorted(shown - kept)[:10])
    found["DLQ entries besides"] = str(shown_entries - len(shown) or "")
    found["open sends"] = str(await world.pool.fetchval("SELECT count(*) FROM email_sends WHERE state = 'OPEN'") or "")
    kept_content = "SELECT count(*) FROM email_send_log WHERE status = 'SUCCESS' AND message IS NOT NULL"
    found["content of sent emails"] = str(await world.pool.fetchval(kept_content) or "")
    return {what: members for what, members in found.items() if members}


async def _pending(world: World, stream: str) -> int:
    try:
        return int((await world.redis.xpending(stream, GROUP))["pending"])
    except ResponseError:  # neither stream nor group
        return 0


async def _texts(answer: Awaitable[list[Any]]) -> list[str]:
    return [member.decode() for member in await answer]


async def _within(timeout_s: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if await condition():
                return True
        except (asyncpg.PostgresError, asyncpg.InterfaceError, RedisError, OSError):
            pass  # connections of before the last restart
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)


def _row(record: asyncpg.Record) -> Row:
    def seconds(at: datetime) -> float:
        return at.timestamp()

    return Row(
        email_id=record["id"],
        key=record["idempotency_key"],
        token=record["subject"].split()[0],
        status=record["status"],
        provider_id=record["provider_message_id"] or "",
        accepted_at=seconds(record["created_at"]),
        ended_at=seconds(record["ended_at"]),
        reason=record["reason"] or "",
        may_have_been_accepted=bool(record["may_have_been_accepted"]),
    )
