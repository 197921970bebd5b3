"""The log as the ingress uses it."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import EmailRecord, HeldKey, NewEmail
from sred_email_core.email_send_log.sql import query


class AcceptanceLog:
    """Accepts emails and looks them up. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def accept(self, emails: Sequence[NewEmail]) -> dict[uuid.UUID, datetime]:
        """Write emails whose keys are free, in one statement, durably.

        Args:
            emails: Keys may repeat; the first in key order wins.

        Returns:
            When it was written, for the id of each that was; the keys of the others are held.

        Raises:
            UnstorableError: One of the emails can't be stored; nothing was written.
        """
        columns: list[list[object]] = [
            [e.id for e in emails],
            [e.idempotency_key for e in emails],
            [e.fingerprint for e in emails],
            [e.kind for e in emails],
            [e.priority for e in emails],
            [e.from_address for e in emails],
            ["\n".join(e.recipients) for e in emails],
            [e.subject for e in emails],
            [e.message for e in emails],
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query("accept_emails"), *columns))
        return {row["id"]: row["created_at"] for row in rows}

    async def find_by_keys(self, keys: Sequence[str]) -> dict[str, HeldKey]:
        """The emails that hold these keys, by key."""
        rows = await postgres.run(lambda: self._pool.fetch(query("find_by_keys"), list(keys)))
        return {row["idempotency_key"]: HeldKey(**row) for row in rows}

    async def get(self, *, email_id: uuid.UUID | None = None, idempotency_key: str | None = None) -> EmailRecord | None:
        """One email by its id or its key; None: there is none."""
        row = await postgres.run(lambda: self._pool.fetchrow(query("get_email"), email_id, idempotency_key))
        return EmailRecord(**row) if row is not None else None
