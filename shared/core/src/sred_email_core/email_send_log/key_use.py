"""Which encryption keys the log still needs."""

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import asyncpg
from google.protobuf.message import DecodeError

from sred.email.v1.stream_message_pb2 import EncryptedContent
from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query
from sred_email_core.encryption.envelope import to_stored
from sred_email_core.postgres_connection import connect_alone

_PAGE = 20_000
"""Open emails of which the beginning is read at once."""


async def count_key_use(dsn: str) -> Mapping[tuple[str, bytes], int]:
    """How many emails need each key, by its id and its check value: those that are open, and dead letters.

    Args:
        dsn: Connection URI of the database.

    Raises:
        OSError: PostgreSQL can't be reached.
        asyncpg.PostgresError: It refuses.
    """
    connection = await connect_alone(dsn)
    try:
        rows = await connection.fetch(query("count_by_key"))
    finally:
        await connection.close()
    use: Counter[tuple[str, bytes]] = Counter()
    for row in rows:
        try:
            head = EncryptedContent.FromString(row["key"])
        except DecodeError:
            head = EncryptedContent()  # damaged: it names no key
        use[head.key_id, head.key_check] += row["emails"]
    return use


class KeyNeed:
    """Looks, a page each time it is asked, whether an open email is encrypted with a key.

    It begins with the email that it found last: while the key is needed, that one row is read again.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", *, page: int = _PAGE) -> None:
        """Prepare.

        Args:
            pool: Of connections.
            page: The most open emails to look at each time.
        """
        self._pool = pool
        self._page = page
        self._beginning = b""
        self._place = uuid.UUID(int=0)

    async def may_be(self, key_id: str, check: bytes) -> bool:
        """Whether an open email needs the key, or some have not been looked at; the next call goes on with those.

        Args:
            key_id: Of the key.
            check: Its check value.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
        """
        beginning = to_stored(EncryptedContent(key_id=key_id, key_check=check))
        if beginning != self._beginning:
            self._beginning, self._place = beginning, uuid.UUID(int=0)
        row = await postgres.run(
            lambda: self._pool.fetchrow(query("find_open_with_key"), beginning, self._place, self._page)
        )
        place = row and (row["found"] or row["next"])
        self._place = place or uuid.UUID(int=0)
        return place is not None
