"""Whatever stands in Redis: the processes live, the emails are delivered once, and what is no email is kept whole."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from crash.bad_input.entries import (
    ENTRIES,
    ODD,
    Pairs,
    is_malformed,
    letters_are_shown,
    letters_by_entry,
    message,
    put,
)
from crash.bad_input.lasting_world import Logs, lasting_world
from crash.bad_input.real_emails import RealEmails, go_on, hold
from crash.bad_input.spoils import (
    HINTS,
    IN_RETRY_SET,
    MEMBERS,
    MESSAGES,
    PLACES,
    SCORES,
    STATE,
    letters_index,
    replace_by_another_type,
    wrong_types_met,
)
from crash.bad_input.wire import collect
from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest
from sred_email_core.queue.keys import Lane
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.rules import Action, Rule
from support.clean_databases import CleanDatabases
from support.world import World, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = {"SRED_EMAIL_RECONCILE_INTERVAL": "0.1", "SRED_EMAIL_RECONCILE_AFTER": "0.3", "SRED_EMAIL_CLAIM_IDLE": "3"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory, databases: CleanDatabases, valkey: ValkeyServer
) -> AsyncIterator[World]:
    """An ingress that reconciles all the time, and a consumer with a limit."""
    async with lasting_world(tmp_path_factory.mktemp("garbage"), databases, valkey) as lasting:
        await asyncio.gather(
            lasting.start("ingress", **QUICK),
            lasting.start("consumer", SRED_EMAIL_RESEND_REQUESTS_PER_SECOND="200", **QUICK),
        )
        yield lasting


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def logs(world: World) -> Logs:
    """What they log."""
    return Logs(world)


@pytest_asyncio.fixture(loop_scope="module")
async def emails(world: World, logs: Logs) -> AsyncIterator[RealEmails]:
    """One has been sent before anything happens, one is sent afterwards; all is well at the end."""
    real = RealEmails(world)
    await real.send()
    yield real
    await real.send()
    await real.assert_delivered_once()
    logs.assert_all_is_well()


async def assert_kept(world: World, entries: dict[tuple[Lane, str], Pairs]) -> None:
    """Each entry that is no email is kept as it was, or another one that names the same email is."""

    async def gone() -> bool:
        return not any([await world.redis.xlen(stream) for stream in world.keys.streams])

    await until(gone, "every entry is settled")
    letters = await letters_by_entry(world)
    named = "SELECT named_email_id, fields_sha256 FROM email_dead_letters WHERE named_email_id IS NOT NULL"
    names = [tuple(row) for row in await world.pool.fetch(named)]
    assert len(names) == len(set(names))
    for (lane, entry_id), pairs in entries.items():
        kept = letters.get((world.keys.stream(lane), entry_id))
        if kept is None:
            assert not is_malformed(pairs, lane) or pairs in letters.values()
        else:
            assert kept == pairs


async def entry_of(world: World, email_id: str) -> str:
    """Id of the stream entry of an email that waits."""
    place: Any = await world.redis.hget(world.keys.places, email_id)
    return str(place.decode().rpartition(":")[2])


async def test_entries_that_are_no_emails_are_kept_whole_and_emails_between_them_are_delivered_once(
    world: World, emails: RealEmails
) -> None:
    put_there: dict[tuple[Lane, str], Pairs] = {}
    for number, pairs in enumerate([*ODD.values(), *collect(ENTRIES, 150)]):
        lane = Lane(1 + number % 3)
        put_there[lane, await put(world, lane, pairs)] = pairs
        if number % 10 == 0:
            await emails.send(priority=lane.value)
    await assert_kept(world, put_there)
    assert len(await letters_by_entry(world)) > 100
    assert world.deliveries("stranger") == 0


async def test_garbage_that_names_emails_that_wait_is_one_letter_for_each_kind_of_it_and_does_not_touch_them(
    world: World, emails: RealEmails
) -> None:
    await hold(world)
    one, other = await emails.send(), await emails.send()
    put_there: dict[tuple[Lane, str], Pairs] = {}
    for email_id, another in ((one, other), (other, one)):
        kinds = (b"", b"\xff", message(), message(another), message(email_id, kind=0))
        for garbage in kinds:
            for lane in Lane:
                pairs = [(b"email_id", email_id.encode()), (b"hints", b"1 0 0"), (b"message", garbage)]
                put_there[lane, await put(world, lane, pairs)] = pairs
    before = len(await letters_by_entry(world))
    await go_on(world)
    await assert_kept(world, put_there)
    assert len(await letters_by_entry(world)) == before + 2 * len(kinds)


async def test_emails_whose_hints_are_garbage_are_delivered_once(world: World, emails: RealEmails) -> None:
    redis: Any = world.redis
    await hold(world)
    stream = world.keys.stream(Lane.NORMAL)
    for hints in HINTS * 3:
        email_id = await emails.send()
        entry_id = await entry_of(world, email_id)
        ((_, fields),) = await redis.xrange(stream, entry_id, entry_id)
        await redis.xdel(stream, entry_id)
        moved = await redis.xadd(stream, {**fields, b"hints": hints})
        await redis.hset(world.keys.places, email_id, f"stream:2:{moved.decode()}")
    await go_on(world)


async def test_members_of_the_retry_set_that_are_no_emails_are_dropped(world: World, emails: RealEmails) -> None:
    redis: Any = world.redis
    for number, (score, place) in enumerate(itertools.product(SCORES, PLACES)):
        stranger = str(uuid.UUID(int=100 + number)).encode()
        for member in (stranger, stranger.upper(), MEMBERS[number % len(MEMBERS)] + b"%d" % number):
            await redis.zadd(world.keys.retry, {member: score})
            if number % 3:
                await redis.hset(world.keys.places, member, place)
            if number % 2:
                await redis.hset(world.keys.parked, member, MESSAGES[number % 3])
        if number % 10 == 0:
            await emails.send()


async def test_sends_that_wait_for_their_repeat_are_repeated_whatever_waits_beside_them(
    world: World, emails: RealEmails
) -> None:
    redis: Any = world.redis
    await redis.zadd(world.keys.consumers, {b"\x00": float("inf"), b"\xff": float("inf")})
    world.rules(Rule(action=Action.ACCEPT_THEN_500, times=4))
    for _ in range(4):
        email_id = await emails.send()
        garbage = {email_id.upper(): 0, email_id + " ": 1, "{" + email_id + "}": float("-inf")}
        await redis.zadd(world.keys.retry, garbage)
        await redis.hset(world.keys.places, mapping=dict.fromkeys(garbage, f"send:{email_id}"))
        await redis.hset(world.keys.parked, email_id, b"\xff\xff\n\xff")


async def test_emails_that_wait_in_the_retry_set_as_garbage_are_delivered_once(
    world: World, emails: RealEmails
) -> None:
    await emails.assert_delivered_once()
    await hold(world)
    refused = Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "1"}, times=len(IN_RETRY_SET))
    world.rules(refused)
    ids = [await emails.send() for _ in IN_RETRY_SET]
    await go_on(world)
    for email_id in ids:
        await world.wait_for(email_id, "RETRYING")
    for email_id, spoil in zip(ids, IN_RETRY_SET.values(), strict=True):
        await spoil(world.redis, world.keys, email_id)


@pytest.mark.parametrize("on_stream", [True, False], ids=["still on its stream", "nowhere"])
async def test_emails_whose_places_are_garbage_are_put_right_and_delivered_once(
    world: World, emails: RealEmails, on_stream: bool
) -> None:
    redis: Any = world.redis
    await hold(world)
    other = await emails.send()
    anothers = f"stream:2:{await entry_of(world, other)}"
    wrong = ["send:" + other, anothers, "stream:1:{}", "stream:3:{}", "stream:2:{}:1", "\ud7ff", "x" * 100_000]
    spoilt = []
    for place in PLACES + wrong:
        email_id = await emails.send()
        spoilt.append(email_id)
        entry_id = await entry_of(world, email_id)
        await redis.hset(world.keys.places, email_id, place.format(entry_id))
        if not on_stream:
            await redis.xdel(world.keys.stream(Lane.NORMAL), entry_id)

    async def put_right() -> bool:
        on_streams = await redis.xrange(world.keys.stream(Lane.NORMAL))
        true = {fields[b"email_id"]: b"stream:2:" + entry_id for entry_id, fields in on_streams}
        places = await redis.hmget(world.keys.places, spoilt)
        return all(true.get(i.encode()) == place for i, place in zip(spoilt, places, strict=True))

    if not on_stream:
        await until(put_right, "each has a place on its stream")
    await go_on(world)


async def test_emails_that_stand_on_their_stream_twice_are_delivered_once_in_a_batch_too(
    world: World, emails: RealEmails
) -> None:
    redis: Any = world.redis
    await hold(world)
    stream = world.keys.stream(Lane.NORMAL)
    for _ in range(10):
        email_id = await emails.send()
        entry_id = await entry_of(world, email_id)
        ((_, fields),) = await redis.xrange(stream, entry_id, entry_id)
        for _ in range(2):
            await redis.xadd(stream, fields)
    await go_on(world)


async def test_an_email_whose_place_is_garbage_can_be_cancelled_and_is_not_sent(
    world: World, emails: RealEmails
) -> None:
    redis: Any = world.redis
    await hold(world)
    subjects = [f"cancelled {number}" for number in range(len(PLACES))]
    for subject, place in zip(subjects, PLACES, strict=True):
        email_id = (await world.send(subject)).email_id
        await redis.hset(world.keys.places, email_id, place)
        await world.dispatch().CancelEmail(CancelEmailRequest(email_id=email_id), timeout=5)
    await go_on(world)
    await emails.assert_delivered_once()
    assert not any(map(world.deliveries, subjects))


async def test_what_the_dlq_and_its_index_say_wrongly_is_put_right(world: World, emails: RealEmails) -> None:
    redis: Any = world.redis
    await put(world, Lane.LOW, [(b"a", b"letter")])
    await emails.assert_delivered_once()
    real_id, real_entry = next(iter((await redis.hgetall(world.keys.letters)).items()))
    await redis.hset(world.keys.letters, mapping=letters_index(real_id, real_entry))
    for fields in ({b"\xff": b"\x00"}, {b"dead_letter_id": b"\xff"}, {b"dead_letter_id": real_id}, {b"": b"x" * 10**6}):
        await redis.xadd(world.keys.dlq, fields)
    await until(lambda: letters_are_shown(world), "the garbage is gone")
    await redis.hset(world.keys.letters, real_id, b"\xff garbage")
    await until(lambda: letters_are_shown(world), "the letter is shown again")


@pytest.mark.parametrize("what", STATE)
async def test_delivery_goes_on_whatever_redis_says_of_its_state(world: World, emails: RealEmails, what: str) -> None:
    await STATE[what](world.redis, world.keys)
    for lane in Lane:
        await emails.send(priority=lane.value)
    for service in world.services:
        assert (await service.get("/metrics"))[0] == 200


@pytest.mark.parametrize(
    "key",
    [
        *("streams", "retry", "places", "parked", "grants", "dispatch"),
        *("doorbell", "consumers", "epoch", "dlq", "letters"),
    ],
)
async def test_while_a_key_is_of_another_type_nobody_crashes_and_without_it_everything_goes_on(
    world: World, logs: Logs, key: str
) -> None:
    real = RealEmails(world)
    await real.send()
    await put(world, Lane.NORMAL, [(b"a", b"letter")])
    named = getattr(world.keys, key)
    names = named if isinstance(named, list) else [named]
    await replace_by_another_type(world.redis, world.keys, names)
    before = await wrong_types_met(world.redis)
    for lane in Lane:
        await real.send(priority=lane)
    if key != "streams":
        await put(world, Lane.HIGH, [(b"another", b"letter")])

    async def met() -> bool:
        return await wrong_types_met(world.redis) > before + 3

    await until(met, "they have met the key again and again")
    for service in world.services:
        assert (await service.get("/healthz"))[0] == 200
    await world.redis.delete(*names)
    await real.send()
    await real.assert_delivered_once()
    assert {error["event"] for error in logs.new_errors()} <= {"redis_refuses"}


async def test_a_key_of_another_type_is_told_by_each_service(world: World, logs: Logs) -> None:
    async def told() -> bool:
        return all("redis_refuses" in service.process.log.read_text() for service in world.services)

    await replace_by_another_type(world.redis, world.keys, [world.keys.places])
    await until(told, "each has told it")
    await world.redis.delete(world.keys.places)
    assert {error["event"] for error in logs.new_errors()} <= {"redis_refuses"}


async def test_a_stream_that_takes_no_more_entries_stops_no_other_and_recovers_when_it_is_deleted(
    world: World, logs: Logs
) -> None:
    real, stream = RealEmails(world), world.keys.stream(Lane.NORMAL)
    await world.redis.xadd(stream, {"a": "b"}, id=f"{2**64 - 1}-{2**64 - 1}")
    await real.send(priority=Lane.NORMAL)
    urgent = await real.send(priority=Lane.HIGH)
    await world.wait_for(urgent, "SUCCESS")
    await world.redis.delete(stream)
    await real.assert_delivered_once()
    assert {(error["event"], error["script"]) for error in logs.new_errors()} <= {("redis_refuses", "publish")}
