"""Stream entries that are no emails, put there as they are, and what was kept of them."""

import uuid
from typing import Any

from hypothesis import strategies as st

from crash.bad_input.wire import broken, field
from sred.email.v1.stream_message_pb2 import EmailContent, EmailStreamMessage, RawStreamEntry
from sred_email_core.errors import MalformedEntryError
from sred_email_core.queue.codec import decode
from sred_email_core.queue.keys import Lane
from support.world import World

Pairs = list[tuple[bytes, bytes]]

SOMEBODY = str(uuid.UUID(int=7))


def message(email_id: str = SOMEBODY, **fields: Any) -> bytes:
    """A message as it travels on a stream, of an email that the log does not know unless it is named."""
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="stranger", text="x")
    return EmailStreamMessage(**{"email_id": email_id, "kind": 1, "content": content, **fields}).SerializeToString()


WRONG_TYPES = [field(tag, b"\x08\x01") for tag in range(1, 12)] + [bytes([8 * tag, 5]) for tag in range(1, 12)]
NAMES = st.one_of(st.sampled_from([b"email_id", b"message", b"hints", b"", b"\xff"]), st.binary(max_size=20))
VALUES = st.one_of(
    st.binary(max_size=100),
    st.just(message()),
    broken(message()),
    st.sampled_from(WRONG_TYPES).map(lambda wrong: message() + wrong),
    st.sampled_from(
        [b"0 0 0", b"-1 0 0", b"1e300 0 1e300", b"nan 1 inf", b"\x00" * 5000, b"9" * 400, SOMEBODY.encode()]
    ),
)
ENTRIES = st.one_of(
    st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=8),
    st.tuples(VALUES, VALUES, VALUES).map(lambda v: list(zip((b"email_id", b"hints", b"message"), v, strict=True))),
)

ODD: dict[str, Pairs] = {
    "no message": [(b"email_id", SOMEBODY.encode())],
    "no id": [(b"message", message())],
    "an id that is none": [(b"email_id", b"\xff\xfe"), (b"hints", b"1 0 0"), (b"message", message())],
    "a kind that is none": [(b"email_id", SOMEBODY.encode()), (b"message", message(kind=99))],
    "a time that is none": [(b"email_id", b"x"), (b"message", message(accepted_at={"seconds": 2**60, "nanos": -1}))],
    "thousands of fields": [(b"f%d" % number, b"v") for number in range(5000)],
    "fields that come twice": [(b"email_id", b"1"), (b"email_id", b"2"), (b"message", b"3"), (b"message", b"4")],
    "megabytes": [(b"email_id", b"x"), (b"hints", b"0" * 1_000_000), (b"message", b"\x00" * 1_000_000)],
    "a name of a megabyte": [(b"n" * 1_000_000, b"")],
    "nothing but emptiness": [(b"", b"")],
}


async def put(world: World, lane: Lane, pairs: Pairs) -> str:
    """Add an entry as it is; its id."""
    redis: Any = world.redis
    flat = [part for pair in pairs for part in pair]
    entry = await redis.execute_command("XADD", world.keys.stream(lane), "*", *flat)
    return str(entry.decode())


def is_malformed(pairs: Pairs, lane: Lane) -> bool:
    """Whether an entry is no email; else it is one that the log does not know."""
    try:
        decode(dict(pairs), lane)
    except MalformedEntryError:
        return True
    return False


async def letters_by_entry(world: World) -> dict[tuple[str, str], Pairs]:
    """What is kept of entries that were no emails, by stream and entry id."""
    rows = await world.pool.fetch(
        "SELECT source_stream, source_entry_id, raw_entry FROM email_dead_letters"
        " WHERE reason = 'MALFORMED' AND resolved_at IS NULL"
    )
    kept = {}
    for stream, entry_id, raw in rows:
        fields = RawStreamEntry.FromString(raw).fields
        kept[stream, entry_id] = [(f.name, f.value) for f in fields]
    return kept


async def letters_are_shown(world: World) -> bool:
    """Whether the DLQ and its index show each open letter once, and nothing else."""
    rows = await world.pool.fetch("SELECT id::text FROM email_dead_letters WHERE resolved_at IS NULL")
    entries: Any = await world.redis.xrange(world.keys.dlq)
    index: Any = await world.redis.hgetall(world.keys.letters)
    shown = [fields.get(b"dead_letter_id") for _, fields in entries]
    wanted = sorted(row["id"].encode() for row in rows)
    return wanted == sorted(index) == sorted(i or b"" for i in shown)
