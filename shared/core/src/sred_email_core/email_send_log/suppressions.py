"""The log as it holds which addresses get no email."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.addresses import digest_of
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.sql import query

ERASED = "erased:"
"""How an address begins that was erased; its digest follows."""


@dataclass(frozen=True, slots=True)
class SuppressionRecord:
    """A suppression in force.

    Attributes:
        address: Normalised.
        reason: Name of the SuppressionReason.
        created_at: Since when.
        expires_at: Until when; None: until it is removed.
    """

    address: str
    reason: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SuppressionChange:
    """What became of one address.

    Attributes:
        version: Of the list with this change.
        digest: Of the address.
        removed: It is free again.
        expires_at: Until when it is suppressed; None: until it is removed.
    """

    version: int
    digest: bytes
    removed: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SuppressionChanges:
    """Some of the changes since a version.

    Attributes:
        changes: In order of their versions.
        list_version: That the list has now.
        complete: There are no more.
    """

    changes: list[SuppressionChange]
    list_version: int
    complete: bool


class SuppressionLog:
    """Reads and writes the list.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def suppress(
        self,
        address: str,
        reason: str,
        *,
        source: str,
        expires_at: datetime | None = None,
        deed: Deed | None = None,
    ) -> SuppressionRecord:
        """Suppress an address; of one that is suppressed, replace reason and expiry.

        Args:
            address: Normalised.
            reason: Name of the SuppressionReason.
            source: Who said so.
            expires_at: Until when; None: until it is removed.
            deed: What the audit says.
        """
        columns: list[Any] = [[digest_of(address)], [address], [reason], [None], source, expires_at, True]
        (row,) = await audit.change(self._pool, "suppress_addresses", *columns, deed=deed)
        return _record(row)

    async def free(self, address: str, *, deed: Deed | None = None) -> bool:
        """Let an address (normalised) get email again; whether it was suppressed."""
        digest = digest_of(address)
        return bool(await audit.change(self._pool, "free_address", digest, deed=deed))

    async def page(self, *, address: str | None, after: str | None, size: int) -> list[SuppressionRecord]:
        """Those in force, in the order of their addresses.

        Args:
            address: Of this address; None: of any.
            after: The last address seen; None: from the start.
            size: The most.
        """
        digest = None if address is None else digest_of(address)
        rows = await postgres.run(lambda: self._pool.fetch(query("list_suppressions"), digest, after, size))
        return [_record(row) for row in rows]

    async def changes(self, since: int, *, size: int) -> SuppressionChanges:
        """What has changed since a version.

        Args:
            since: A version of the list; 0: all.
            size: About how many at most: changes of one version come together.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("load_suppressions"), since, size))
        changes = [
            SuppressionChange(row["version"], row["digest"], row["removed"], row["expires_at"])
            for row in rows
            if row["version"] is not None
        ]
        return SuppressionChanges(changes, rows[0]["list_version"], complete=len(changes) < size)

    async def count_beyond(self, version: int) -> None:
        """Let the next version be higher than one that a copy has."""
        await postgres.run(lambda: self._pool.fetch(query("count_suppressions_beyond"), version))


def suppression_columns(told: Sequence[tuple[str, str, datetime | None]], source: str) -> list[Any]:
    """The parameters of suppress_addresses.sql for what events tell: address, reason, and when it occurred."""
    return [
        [digest_of(address) for address, _, _ in told],
        [address for address, _, _ in told],
        [reason for _, reason, _ in told],
        [occurred_at for _, _, occurred_at in told],
        source,
        None,
        False,
    ]


def _record(row: asyncpg.Record) -> SuppressionRecord:
    return SuppressionRecord(row["address"], row["reason"], row["created_at"], row["expires_at"])
