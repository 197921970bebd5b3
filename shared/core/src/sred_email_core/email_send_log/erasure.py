"""The log as it forgets a person."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from google.protobuf.message import DecodeError

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core import postgres
from sred_email_core.addresses import bare_address, digest_of
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.sql import query
from sred_email_core.email_send_log.suppressions import suppression_columns
from sred_email_core.encryption.envelope import from_stored, is_encrypted, unseal
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.errors import KeyMissingError, UnreadableContentError

log = structlog.get_logger(__name__)

START = uuid.UUID(int=0)
END = uuid.UUID(int=2**128 - 1)
_AT_ONCE = 200
_MOST_BYTES = 8 * 1024 * 1024
"""Of contents in memory, where one alone is not more."""


@dataclass(slots=True)
class Erased:
    """What became of some emails, told by what Redis has to forget too.

    Attributes:
        erased: How many are erased.
        deferred: How many are erased later: their send is open.
        cancelled: Ids of those that were open.
        letters: Ids of the dead letters that are closed now.
    """

    erased: int = 0
    deferred: int = 0
    cancelled: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Addressed:
    """Emails to an address.

    Attributes:
        ids: All of them.
        in_copy: Those that have it in cc or bcc only.
        missing_key: Why some could not be looked at; None: all were.
    """

    ids: list[uuid.UUID] = field(default_factory=list)
    in_copy: list[uuid.UUID] = field(default_factory=list)
    missing_key: KeyMissingError | None = None


class ErasureLog:
    """Finds and erases what is kept of a recipient.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", keys: KeyRingFile, *, horizon: timedelta) -> None:
        self._pool = pool
        self._keys = keys
        self._horizon = horizon

    async def page_end(self, after: uuid.UUID, *, size: int) -> uuid.UUID:
        """The last email of the page that follows an email; END: it is the last page."""
        return await postgres.run(lambda: self._pool.fetchval(query("end_of_page"), after, size)) or END

    async def addressed(self, address: str, after: uuid.UUID, last: uuid.UUID) -> Addressed:
        """Emails of a page that have an address (normalised) in to, cc or bcc."""
        needles = (address, _escaped(address))
        rows = await postgres.run(lambda: self._pool.fetch(query("find_addressed"), after, last, *needles))
        found = Addressed()
        for row in rows:
            if address in map(bare_address, row["recipients"]):
                found.ids.append(row["id"])
            elif not is_encrypted(row["message"]):
                self._look_into(found, address, row)
        encrypted = await postgres.run(lambda: self._pool.fetch(query("find_encrypted"), after, last))
        known = {*found.ids}
        for group in _in_loads([row for row in encrypted if row["id"] not in known]):
            for row in await postgres.run(lambda group=group: self._pool.fetch(query("get_messages"), group)):  # type: ignore[misc]
                self._look_into(found, address, row)
        return found

    def _look_into(self, found: Addressed, address: str, row: asyncpg.Record) -> None:
        """Add an email that has the address in cc or bcc, as far as its content tells."""
        email_id, message = row["id"], row["message"]
        if message is None:
            return
        try:
            sealed = from_stored(message)
            content = (
                EmailContent.FromString(message) if sealed is None else unseal(self._keys.ring, str(email_id), sealed)
            )
        except KeyMissingError as e:
            found.missing_key = e
        except (DecodeError, UnreadableContentError):
            log.error("content_unreadable", email_id=str(email_id))  # noqa: TRY400 - a traceback would quote it
        else:
            if address in map(bare_address, (*content.to, *content.cc, *content.bcc)):
                found.ids.append(email_id)
                found.in_copy.append(email_id)

    async def erase_words(self, address: str, after: uuid.UUID, last: uuid.UUID) -> None:
        """Forget errors of a page's emails that name an address."""
        await postgres.run(lambda: self._pool.execute(query("erase_words"), after, last, address))

    async def erase(
        self, ids: Sequence[uuid.UUID], digest: bytes, *, in_copy: Sequence[uuid.UUID] = (), deed: Deed | None = None
    ) -> Erased:
        """Erase emails of a recipient, or note them where they have to wait.

        Args:
            ids: Of emails that have the address.
            digest: Of the address.
            in_copy: Those of them that have it in cc or bcc only.
            deed: What the audit says.
        """
        result = Erased()
        for start in range(0, len(ids), _AT_ONCE):
            part = list(ids[start : start + _AT_ONCE])

            async def once(part: list[uuid.UUID] = part) -> "list[asyncpg.Record]":
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.fetch(query("lock_emails_and_siblings"), part)
                    await connection.fetch(query("lock_sends_of"), part)
                    asked = (part, digest, self._horizon, list(in_copy))
                    rows = await connection.fetch(query("erase_emails"), *asked)
                    await audit.record(connection, deed, sum(not row["waits"] for row in rows))
                    return list(rows)

            for row in await postgres.run(once):
                _add(result, row)
        return result

    async def erase_traces(self, address: str, *, deed: Deed | None = None) -> list[str]:
        """Forget an address beside the emails; what was done is in the audit afterwards, whatever there was.

        Returns:
            Ids of the dead letters that are closed by it.
        """

        async def once() -> list[str]:
            async with self._pool.acquire() as connection, connection.transaction():
                told = await connection.fetch(query("events_to_suppress"), address)
                if told:
                    columns = suppression_columns([tuple(row) for row in told], "webhook")
                    await connection.fetch(query("suppress_addresses"), *columns)
                traces = (address, _escaped(address), digest_of(address))
                rows = await connection.fetch(query("erase_traces"), *traces)
                await audit.record(connection, deed, 0, always=True)
                return [row["dead_letter_id"] for row in rows]

        return await postgres.run(once)

    async def due(self, *, size: int) -> dict[bytes, list[uuid.UUID]]:
        """Emails that had to wait and may not have to any more, by the digest of the address to erase."""
        await postgres.run(lambda: self._pool.execute(query("drop_erasures")))
        due: dict[bytes, list[uuid.UUID]] = {}
        for row in await postgres.run(lambda: self._pool.fetch(query("find_erasures"), size)):
            due.setdefault(row["digest"], []).append(row["email_id"])
        return due


def _add(result: Erased, row: asyncpg.Record) -> None:
    if row["waits"]:
        result.deferred += 1
        return
    result.erased += 1
    result.letters += row["dead_letter_ids"]
    if row["was_open"]:
        result.cancelled.append(row["email_id"])


def _in_loads(rows: Sequence[asyncpg.Record]) -> Iterator[list[uuid.UUID]]:
    """Ids of emails whose contents are read together."""
    group: list[uuid.UUID] = []
    size_bytes = 0
    for row in rows:
        if group and (len(group) == _AT_ONCE or size_bytes + row["size_bytes"] > _MOST_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(row["id"])
        size_bytes += row["size_bytes"]
    if group:
        yield group


def _escaped(address: str) -> str:
    """As ``encode(…, 'escape')`` writes it: bytes beyond ASCII as octal numbers."""
    parts = (chr(b) if b < 128 and b != 92 else "\\\\" if b == 92 else f"\\{b:03o}" for b in address.encode())  # noqa: PLR2004 - ASCII, and the backslash
    return "".join(parts)
