"""Whatever stands in Redis: no crash, nothing of it is lost, and the emails beside it are delivered once."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crash.interleavings.stage import LEASE_S, Stage
from sred.email.v1.stream_message_pb2 import EmailContent, EmailStreamMessage, RawStreamEntry
from sred_email_core.queue.keys import GROUP, Lane

Pairs = list[tuple[bytes, bytes]]

SOMEBODY = str(uuid.UUID(int=7))


def message(email_id: str = SOMEBODY, **fields: Any) -> bytes:
    """A message as it travels on a stream, of an email that the log does not know."""
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="stranger", text="x")
    return EmailStreamMessage(**{"email_id": email_id, "kind": 1, "content": content, **fields}).SerializeToString()


def examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many values of a strategy, the same each time."""
    found: list[Any] = []

    @settings(max_examples=count, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


NAMES = st.one_of(st.sampled_from([b"email_id", b"message", b"hints", b"", b"\xff"]), st.binary(max_size=20))
VALUES = st.one_of(
    st.binary(max_size=200),
    st.just(message()),
    st.binary(max_size=60).map(lambda tail: message() + tail),
    st.sampled_from([b"0 0 0", b"-1 0 0", b"1e300 0 1e300", b"nan 1 inf", b"\x00" * 5000, b"stream:1:1-1", b"9" * 400]),
)
ENTRIES = st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=12)

ODD: dict[str, Pairs] = {
    "no fields of ours": [(b"a", b"b")],
    "no message": [(b"email_id", SOMEBODY.encode())],
    "no id": [(b"message", message())],
    "an id that is none": [(b"email_id", b"\xff\xfe"), (b"message", message())],
    "an id written otherwise": [(b"email_id", SOMEBODY.upper().encode() + b"x"), (b"message", message())],
    "a message that is none": [(b"email_id", SOMEBODY.encode()), (b"message", b"\xff" * 100)],
    "a message of another": [(b"email_id", SOMEBODY.encode()), (b"message", message(str(uuid.UUID(int=8))))],
    "a message without a body": [(b"email_id", SOMEBODY.encode()), (b"message", b"")],
    "a kind that is none": [(b"email_id", SOMEBODY.encode()), (b"message", message(kind=99))],
    "a time that is none": [
        (b"email_id", SOMEBODY.encode()),
        (b"message", message(accepted_at={"seconds": 2**60, "nanos": -1})),
    ],
    "thousands of fields": [(b"f%d" % number, b"v") for number in range(3000)],
    "fields that come twice": [(b"email_id", b"1"), (b"email_id", b"2"), (b"message", b"3"), (b"message", b"4")],
    "megabytes": [(b"email_id", b"x"), (b"message", b"\x00" * 3_000_000)],
    "a name of megabytes": [(b"n" * 1_000_000, b"")],
}


async def put(stage: Stage, lane: Lane, pairs: Pairs) -> str:
    """Add an entry as it is; its id."""
    flat = [part for pair in pairs for part in pair]
    redis: Any = stage.redis
    entry = await redis.execute_command("XADD", stage.keys.stream(lane), "*", *flat)
    return str(entry.decode())


async def letter_of(stage: Stage, lane: Lane, entry_id: str) -> Pairs | None:
    """The fields that the dead letter of an entry has kept; None: there is no such letter."""
    raw = await stage.pool.fetchval(
        "SELECT raw_entry FROM email_dead_letters WHERE source_stream = $1 AND source_entry_id = $2"
        " AND reason = 'MALFORMED' AND resolved_at IS NULL",
        stage.keys.stream(lane),
        entry_id,
    )
    return None if raw is None else [(f.name, f.value) for f in RawStreamEntry.FromString(raw).fields]


async def assert_nothing_waits(stage: Stage) -> None:
    """No stream holds anything, and nothing is pending."""
    for stream in stage.keys.streams:
        assert await stage.redis.xlen(stream) == 0
        assert (await stage.redis.xpending(stream, GROUP))["pending"] == 0


@pytest.mark.parametrize("slots", [4, 1], ids=["alone", "batch"])
@pytest.mark.parametrize("what", ODD)
async def test_an_entry_that_is_no_email_is_kept_whole_and_its_neighbours_are_delivered(
    stage: Stage, what: str, slots: int
) -> None:
    (before,) = await stage.accept("before")
    entry_id = await put(stage, Lane.NORMAL, ODD[what])
    (after,) = await stage.accept("after")
    await stage.consumer(consumer_slots=slots).work()
    assert await letter_of(stage, Lane.NORMAL, entry_id) == ODD[what]
    for email_id, subject in ((before, "before"), (after, "after")):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    await assert_nothing_waits(stage)
    await stage.assert_letters_are_shown()


@pytest.mark.parametrize("slots", [4, 1], ids=["alone", "batch"])
async def test_arbitrary_entries_are_kept_whole_or_are_nobodys_and_real_emails_are_delivered(
    stage: Stage, slots: int
) -> None:
    consumer = stage.consumer(consumer_slots=slots)
    entries: list[Pairs] = examples(ENTRIES, 150)
    ids, put_there = {}, []
    for number, pairs in enumerate(entries):
        lane = Lane(1 + number % 3)
        put_there.append((lane, await put(stage, lane, pairs), pairs))
        if number % 10 == 0:
            subject = f"real {number}"
            ids[subject] = await stage.accept_one(subject, priority=lane.value)
    await consumer.work()
    for lane, entry_id, pairs in put_there:
        kept = await letter_of(stage, lane, entry_id)
        assert kept == pairs or (kept is None and (b"email_id", SOMEBODY.encode()) in pairs)
    for subject, email_id in ids.items():
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    await assert_nothing_waits(stage)
    await stage.assert_letters_are_shown()
    assert stage.deliveries("stranger") == 0


@pytest.mark.parametrize(
    "hints", [b"", b"x", b"0 0", b"-1 0 0", b"9" * 400 + b" 0 0", b"0 0 " + b"9" * 400, b"1e9 2 0"]
)
@pytest.mark.parametrize("slots", [4, 1], ids=["alone", "batch"])
async def test_hints_that_say_nothing_let_an_email_go_alone(stage: Stage, hints: bytes, slots: int) -> None:
    ids = await stage.accept("odd", "even")
    stream = stage.keys.stream(Lane.NORMAL)
    entries: Any = await stage.redis.xrange(stream)
    for _, fields in entries:
        fields[b"hints"] = hints
    await stage.redis.delete(stream)
    for _, fields in entries:
        moved: Any = await stage.redis.xadd(stream, fields)
        place = f"stream:2:{moved.decode()}"
        await stage.redis.hset(stage.keys.places, fields[b"email_id"].decode(), place)
    await stage.consumer(consumer_slots=slots).work()
    for email_id, subject in zip(ids, ("odd", "even"), strict=True):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def test_a_second_entry_of_an_email_sends_it_once(stage: Stage) -> None:
    email_id = await stage.accept_one("twice")
    ((_, fields),) = await entries_of(stage)
    for lane in Lane:
        await stage.redis.xadd(stage.keys.stream(lane), fields)
    consumer = stage.consumer()
    await consumer.work()
    await stage.time_passes(LEASE_S + 1)
    await consumer.work()
    stage.assert_one_send("twice", requests=1)
    await stage.assert_sent_once(email_id, "twice")
    await assert_nothing_waits(stage)


async def entries_of(stage: Stage) -> list[tuple[bytes, dict[Any, Any]]]:
    """What stands on the stream of NORMAL emails."""
    entries: Any = await stage.redis.xrange(stage.keys.stream(Lane.NORMAL))
    return list(entries)


async def test_an_entry_that_names_an_email_and_is_garbage_does_not_touch_it(stage: Stage) -> None:
    email_id = await stage.accept_one("named")
    for garbage in (b"", b"\xff", message()):
        await put(stage, Lane.NORMAL, [(b"email_id", email_id.encode()), (b"message", garbage)])
    await stage.consumer().work()
    stage.assert_one_send("named", requests=1)
    await stage.assert_sent_once(email_id, "named")
    rows = await stage.pool.fetch("SELECT named_email_id::text, reason FROM email_dead_letters")
    assert [tuple(row) for row in rows] == [(email_id, "MALFORMED")] * 3
    await assert_nothing_waits(stage)


Spoil = Callable[[Stage], Awaitable[Any]]
FAR: dict[str, Any] = {
    "beyond all": float("inf"),
    "before all": float("-inf"),
    "in millions of years": 1e17,
    "huge": 1e300,
}


def due_at(at: float) -> Spoil:
    """A member of the retry set that is due at some time."""
    return lambda stage: stage.redis.zadd(stage.keys.retry, {b"\xff\x00": at})


def held_until(text: str) -> Spoil:
    """A hold on delivery that ends at some time."""
    return lambda stage: stage.redis.hset(stage.keys.dispatch, "until", text)


def granted_at(score: float) -> Spoil:
    """A grant of some time."""
    return lambda stage: stage.redis.zadd(stage.keys.grants, {b"\xff": score})


STATE: dict[str, Spoil] = {
    **{f"a retry due {when}": due_at(at) for when, at in FAR.items()},
    **{
        f"delivery held until {text!r}": held_until(text)
        for text in ("", "soon", "inf", "-inf", "nan", "1e300", "0x10", "-1", "\xff")
    },
    "a hold set at no time": lambda s: s.redis.hset(s.keys.dispatch, mapping={"set": "soon", "until": "1"}),
    "a hold set far from now": lambda s: s.redis.hset(s.keys.dispatch, mapping={"set": "1e300", "until": "1e300"}),
    "a hold of garbage": lambda s: s.redis.hset(
        s.keys.dispatch, mapping={b"\xff": b"\xfe", "state": b"\x00", "reason": b"\xff"}
    ),
    **{f"a grant at {score}": granted_at(score) for score in (float("-inf"), -1, 0.5, 1e300, float("inf"))},
    "a number of grants that is none": lambda s: s.redis.hset(s.keys.dispatch, "granted", "soon"),
    "consumers that are none": lambda s: s.redis.zadd(
        s.keys.consumers, {b"\xff\x00": float("inf"), b"\xfe": float("-inf"), b"": 5, b"x" * 10_000: 0}
    ),
    "a place on no stream": lambda s: s.redis.hset(s.keys.places, "x", "stream:9:1-1"),
    "a place that is garbage": lambda s: s.redis.hset(
        s.keys.places, mapping={b"\xff": b"\x00", b"": b"", b"y": b"send:"}
    ),
    "a parked email that is none": lambda s: s.redis.hset(s.keys.parked, mapping={b"\xff": b"\x00", b"": b"\n"}),
    "a dead letter that is none": lambda s: s.redis.xadd(s.keys.dlq, {b"\xff": b"\x00"}),
    "an index of letters that are none": lambda s: s.redis.hset(
        s.keys.letters, mapping={b"\xff": b"\x00", b"": b"1-1"}
    ),
    "a doorbell full of garbage": lambda s: s.redis.lpush(s.keys.doorbell, *[b"\xff" * 100] * 1000),
}


@pytest.mark.parametrize("what", STATE)
async def test_delivery_goes_on_whatever_redis_says_of_its_state(stage: Stage, what: str) -> None:
    consumer = stage.consumer(resend_requests_per_second=50)
    await consumer.work()
    await STATE[what](stage)
    email_id = await stage.accept_one("real")
    for _ in range(3):
        await consumer.take_over()
        await stage.reconcile()
    stage.assert_one_send("real", requests=1)
    await stage.assert_sent_once(email_id, "real")
    await stage.assert_nothing_left()


@pytest.mark.parametrize("member", ["x", "", "\ufffd", str(uuid.UUID(int=9)), "9" * 1000])
async def test_a_send_to_be_repeated_that_is_none_is_forgotten(stage: Stage, member: str) -> None:
    consumer = stage.consumer()
    await consumer.take()
    await stage.redis.zadd(stage.keys.retry, {member: 1})
    await stage.redis.hset(stage.keys.places, member, f"send:{member}")
    email_id = await stage.accept_one("real")
    await consumer.work()
    await stage.assert_sent_once(email_id, "real")
    await stage.assert_nothing_left()


PARKED = {
    "no message": b"0 0 0",
    "no hints": b"\nmessage",
    "garbage": b"\xff\x00" * 50,
    "garbage on two lines": b"\xff\n\x00\n",
    "nothing": b"",
    "a message of another": b"0 0 0\n" + message(),
}


@pytest.mark.parametrize("what", PARKED)
@pytest.mark.parametrize("place", ["retry:2", "retry:9", "send:x", "stream:1:1-1", "\x00", ""])
async def test_an_email_whose_place_is_garbage_is_put_right_and_delivered_once(
    stage: Stage, place: str, what: str
) -> None:
    email_id = await stage.accept_one("parked")
    await stage.redis.delete(*stage.keys.streams)
    await stage.redis.hset(stage.keys.places, email_id, place)
    await stage.redis.hset(stage.keys.parked, email_id, PARKED[what])
    await stage.redis.zadd(stage.keys.retry, {email_id: 1})
    consumer = stage.consumer()
    for _ in range(3):
        await consumer.take_over()
        await stage.time_passes(LEASE_S + 1)
        await stage.reconcile()
    stage.assert_one_send("parked", requests=1)
    await stage.assert_sent_once(email_id, "parked")
    await stage.assert_nothing_left()
