"""Which encryption keys the log still needs."""

from collections import Counter
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from sred.email.v1.stream_message_pb2 import EncryptedContent
from sred_email_core.email_send_log.sql import query
from sred_email_core.postgres_connection import connect_alone


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
