"""The log as it holds what operators did, and who cancelled emails."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.addresses import digest_of
from sred_email_core.email_send_log.sql import query

ANONYMOUS = "anonymous"
"""Who calls while authentication is off."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What one call of an operator does.

    Attributes:
        action: What, in a word or two.
        target: To what: a lane, ids, a selection; of a person only the digest.
        detail: More about it, without personal data.
        actor: Who.
        peer: Where the call comes from.
        call_id: Of the call: what it does in several transactions is one entry.
    """

    action: str
    target: str = ""
    detail: str = ""
    actor: str = ANONYMOUS
    peer: str = ""
    call_id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry of the audit; ``count``: how many were touched."""

    sequence: int
    at: datetime
    actor: str
    peer: str
    action: str
    target: str
    detail: str
    count: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; all that is set must hold. ``actor`` is part of the name or of the address of who did it."""

    action: str | None = None
    actor: str | None = None
    at_or_after: datetime | None = None
    before: datetime | None = None


class AuditLog:
    """Reads the audit. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def page(self, *, before: int | None, size: int, wanted: "AuditFilter | None" = None) -> list[AuditRecord]:
        """What was done, the latest first.

        Args:
            before: The last sequence seen; None: from the latest.
            size: The most.
            wanted: Which; None: all.
        """
        w = wanted or AuditFilter()
        filters = (w.action, w.actor, w.at_or_after, w.before)
        rows = await postgres.run(lambda: self._pool.fetch(query("list_audit"), before, size, *filters))
        return [AuditRecord(**row) for row in rows]


async def record(
    connection: Any,  # noqa: ANN401 - the pool's proxy
    deed: Deed | None,
    count: int,
    *,
    always: bool = False,
) -> None:
    """Write what is done into the audit in the transaction that does it; of nothing, only if ``always``."""
    if deed is not None and (count > 0 or always):
        columns = (deed.call_id, deed.actor, deed.peer, deed.action, deed.target, deed.detail, count)
        await connection.execute(query("record_audit"), *columns)


async def change(
    pool: "asyncpg.Pool[Any]",
    name: str,
    *args: object,
    deed: Deed | None,
    count: Callable[[Sequence[asyncpg.Record]], int] = len,
) -> "list[asyncpg.Record]":
    """Run a statement and record what it does, in one transaction.

    Args:
        pool: Of the log.
        name: Of the statement.
        args: Its parameters.
        deed: What is done; None: nothing that belongs in the audit.
        count: How many were touched, told by the rows.

    Raises:
        LogUnavailableError: PostgreSQL does not answer. Whether it took effect is unknown.
    """

    async def once() -> "list[asyncpg.Record]":
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(query(name), *args)
            await record(connection, deed, count(rows))
            return list(rows)

    if deed is None:
        return list(await postgres.run(lambda: pool.fetch(query(name), *args)))
    return await postgres.run(once)


def anonymised(address: str) -> str:
    """What the audit calls an address (normalised): whoever knows the address recognizes it."""
    return f"sha256:{digest_of(address).hex()}"
