"""Events as watchers read them: none is missed, and those of one email come in order, however transactions commit."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from asyncpg.pool import PoolConnectionProxy
from integration.core.log_builder import LogWorld, accepted, new_email

from sred_email_core.email_send_log.events import EventLog, EventRecord, Position
from sred_email_core.email_send_log.retention import BEGINNING, RetentionLog
from sred_email_core.errors import EventsGoneError


@pytest.fixture
def events(world_of_log: LogWorld) -> EventLog:
    """The events of an empty log."""
    return EventLog(world_of_log.pool)


@asynccontextmanager
async def begun(world: LogWorld) -> "AsyncIterator[PoolConnectionProxy[Any]]":
    """A transaction that has its number, and is committed when the context ends."""
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_current_xact_id()")
        yield connection


async def all_after(
    events: EventLog, position: Position, *, size: int = 100, email_ids: list[uuid.UUID] | None = None
) -> tuple[list[EventRecord], Position]:
    """Everything that can be told now, read by pages."""
    told: list[EventRecord] = []
    while True:
        page = await events.page(position, size=size, email_ids=email_ids)
        told += page.events
        position = page.after
        if not page.more:
            return told, position


def statuses(told: list[EventRecord]) -> list[tuple[str, str]]:
    return [(str(event.email_id), event.status) for event in told]


async def accept_in(connection: "PoolConnectionProxy[Any]", email_id: uuid.UUID) -> None:
    await connection.execute(
        "INSERT INTO email_events (email_id, what, status) VALUES ($1, 'ACCEPTED', 'QUEUED')", email_id
    )


async def test_hazard_26_what_commits_out_of_order_is_told_once_and_nothing_is_missed(
    world_of_log: LogWorld, events: EventLog
) -> None:
    start = (await events.begin([])).position
    older, younger = uuid.uuid4(), uuid.uuid4()
    async with begun(world_of_log) as first:
        await accept_in(first, older)
        async with begun(world_of_log) as second:
            await accept_in(second, younger)
        told, position = await all_after(events, start)
        assert told == []  # the younger one is committed; to tell it now would skip the older one
    rest, position = await all_after(events, position)
    assert [event.email_id for event in rest] == [older, younger]
    assert await all_after(events, position) == ([], position)
    again, _ = await all_after(events, rest[0].position)
    assert [event.email_id for event in again] == [younger]


async def test_hazard_26_events_of_one_email_come_in_the_order_of_its_changes_whoever_commits_last(
    world_of_log: LogWorld, events: EventLog
) -> None:
    (email_id,) = await world_of_log.accept()
    named = [uuid.UUID(email_id)]
    start = (await events.begin([])).position
    change = (
        "WITH changed AS (UPDATE email_send_log SET status = $2 WHERE id = $1 RETURNING id, status)"
        " INSERT INTO email_events (email_id, what, status) SELECT id, 'CHANGED', status FROM changed"
    )
    pool = world_of_log.pool
    async with pool.acquire() as older, pool.acquire() as between, pool.acquire() as younger:
        for connection in (older, between, younger):
            await connection.execute("BEGIN; SELECT pg_current_xact_id()")
        await younger.execute(change, named[0], "RETRYING")
        waiting = asyncio.create_task(older.execute(change, named[0], "FAILED"))
        await world_of_log.until_blocked(waiting)
        await younger.execute("COMMIT")
        await waiting
        await older.execute("COMMIT")
        for which in (None, named):  # only the last change is older than all that runs
            assert await all_after(events, start, email_ids=which) == ([], (await events.begin([])).position)
        await between.execute("COMMIT")
    for which in (None, named):
        told, _ = await all_after(events, start, email_ids=which, size=1)
        assert statuses(told) == [(email_id, "RETRYING"), (email_id, "FAILED")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_pages_of_any_size_tell_each_event_once(world_of_log: LogWorld, events: EventLog, size: int) -> None:
    start = (await events.begin([])).position
    await world_of_log.acceptance.accept([new_email() for _ in range(5)])
    for _ in range(3):
        await world_of_log.rejected()
    expected = await world_of_log.pool.fetch("SELECT sequence FROM email_events ORDER BY transaction_id, sequence")
    told, _ = await all_after(events, start, size=size)
    assert [event.position.sequence for event in told] == [row["sequence"] for row in expected]
    ids = [event.email_id for event in told[:3]]
    named, _ = await all_after(events, start, size=size, email_ids=ids)
    assert named == [event for event in told if event.email_id in ids]


async def test_random_transactions_are_told_completely_and_in_order(world_of_log: LogWorld, events: EventLog) -> None:
    """Many writers on the same few emails, read meanwhile: each row carries the version that its event told of."""
    ids = [uuid.UUID(i) for i in await world_of_log.accept(4)]
    position = (await events.begin([])).position
    going = True

    async def write(number: int) -> None:
        for turn in range(12):
            chosen = ids if (number + turn) % 3 else ids[number % 4 :][:2]
            await world_of_log.pool.execute(
                "WITH asked AS (SELECT id FROM email_send_log WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE),"
                " changed AS (UPDATE email_send_log e SET attempts = e.attempts + 1 FROM asked a WHERE e.id = a.id"
                " RETURNING e.id, e.attempts)"
                " INSERT INTO email_events (email_id, what, status, attempt)"
                " SELECT id, 'ATTEMPT_FAILED', 'RETRYING', attempts FROM changed",
                chosen,
            )

    told: list[EventRecord] = []

    async def read() -> None:
        nonlocal position
        while going:
            more, position = await all_after(events, position, size=5)
            told.extend(more)

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(number) for number in range(4)))
    going = False
    await reader
    rest, _ = await all_after(events, position, size=5)
    told.extend(rest)
    for email_id in ids:
        row = await world_of_log.email(str(email_id))
        assert [event.attempt for event in told if event.email_id == email_id] == [*range(1, row["attempts"] + 1)]


async def test_a_watch_begins_with_the_present_state_of_each_email_and_what_it_shows_already(
    world_of_log: LogWorld, events: EventLog
) -> None:
    sent, waiting = await world_of_log.accept(2)
    claim = await world_of_log.claimed(sent)
    await world_of_log.log.record_answers([accepted(claim.send_id, sent)])
    start = await events.begin([uuid.UUID(sent), uuid.UUID(waiting), uuid.uuid4()])
    assert {str(i): (s.status, s.delivery, s.attempt) for i, s in start.states.items()} == {
        sent: ("SUCCESS", "SENT", 1),
        waiting: ("QUEUED", None, 0),
    }
    assert (await all_after(events, start.position))[0] == []
    everything, _ = await all_after(events, Position(0, 0))
    assert start.shown[uuid.UUID(sent)] == everything[-1].position.sequence
    assert everything[-1].provider_message_id == f"provider-{sent}"


async def test_what_the_state_shows_already_is_known_while_an_older_transaction_still_runs(
    world_of_log: LogWorld, events: EventLog
) -> None:
    async with begun(world_of_log):
        (email_id,) = await world_of_log.accept()
        start = await events.begin([uuid.UUID(email_id)])
    told, _ = await all_after(events, start.position, email_ids=[uuid.UUID(email_id)])
    assert [event.position.sequence for event in told] == [start.shown[uuid.UUID(email_id)]]


async def test_a_look_says_whether_there_is_something_new_and_of_whom(world_of_log: LogWorld, events: EventLog) -> None:
    mine, others = await world_of_log.accept(2)
    since, _ = await events.settled(0)
    assert await events.settled(since) == (since, False)
    await world_of_log.claimed(mine)
    until, anything = await events.settled(since)
    assert not anything  # SENDING is no event
    await world_of_log.rejected(others)
    settled, anything = await events.settled(until)
    assert anything
    ids = [uuid.UUID(mine), uuid.UUID(others)]
    assert await events.touched(ids, since=until, until=settled) == [uuid.UUID(others)]


async def test_a_position_before_what_was_pruned_is_told_so_and_one_after_it_goes_on(
    world_of_log: LogWorld, events: EventLog
) -> None:
    before = (await events.begin([])).position
    gone, kept, young = [uuid.UUID(i) for i in await world_of_log.accept(3)]
    after = (await events.begin([])).position
    await world_of_log.pool.execute(
        "UPDATE email_send_log SET status = 'CANCELLED', created_at = now() - interval '3 d',"
        " ended_at = now() - interval '2 d' WHERE id = ANY ($1::uuid[])",
        [gone, young],
    )
    await world_of_log.pool.execute(
        "UPDATE email_events SET at = at - interval '25 h' WHERE email_id = ANY ($1::uuid[])", [gone, kept]
    )
    retention = RetentionLog(world_of_log.pool)
    assert (await retention.forget_emails(older_than=timedelta(days=1), after=BEGINNING, size=10)).emails == 1
    left = await world_of_log.pool.fetch("SELECT email_id FROM email_events")
    assert {row["email_id"] for row in left} == {kept, young}  # the young one's are not a day old
    for which in (None, [kept]):
        with pytest.raises(EventsGoneError):
            await events.page(before, size=10, email_ids=which)
        assert (await events.page(after, size=10, email_ids=which)).events == []
    assert (await retention.forget_emails(older_than=timedelta(days=1), after=BEGINNING, size=10)).emails == 0
    assert (await events.page(after, size=10)).events == []


async def test_a_position_that_this_database_has_not_come_to_is_another_ones(events: EventLog) -> None:
    start = (await events.begin([])).position
    with pytest.raises(EventsGoneError):
        await events.page(Position(start.place + 1_000_000, 1), size=10)


async def test_events_that_a_dump_brought_from_another_cluster_do_not_hold_back_those_of_this_one(
    world_of_log: LogWorld, events: EventLog
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.pool.execute("UPDATE email_events SET transaction_id = '4000000000'")
    start = (await events.begin([])).position
    await world_of_log.rejected(email_id)
    for which in (None, [uuid.UUID(email_id)]):
        told, _ = await all_after(events, start, email_ids=which)
        assert statuses(told) == [(email_id, "FAILED")]


async def test_the_timeline_of_an_email_is_all_that_happened_to_it_and_who_did_it(
    world_of_log: LogWorld, events: EventLog
) -> None:
    email_id, letter = await world_of_log.rejected()
    await world_of_log.letters.replay([uuid.UUID(letter)], include_outcome_unknown=False, include_poison=False)
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    happened = await events.timeline(uuid.UUID(email_id))
    assert [(h.what, h.status, h.attempt, h.reason, h.consumer) for h in happened] == [
        ("ACCEPTED", "QUEUED", 0, None, None),
        ("FAILED", "FAILED", 1, "what the provider said", "me"),
        ("REPLAYED", "QUEUED", 0, None, None),
        ("SENT", "SUCCESS", 1, None, "me"),
    ]
    assert happened[-1].provider_message_id == f"provider-{email_id}"
    assert [h.at for h in happened] == sorted(h.at for h in happened)
    assert await events.timeline(uuid.uuid4()) == []


async def test_the_acceptance_is_in_the_timeline_though_its_event_is_not(
    world_of_log: LogWorld, events: EventLog
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.pool.execute("DELETE FROM email_events")
    await world_of_log.acceptance.cancel(uuid.UUID(email_id))
    happened = await events.timeline(uuid.UUID(email_id))
    assert [h.what for h in happened] == ["ACCEPTED", "CANCELLED"]
    assert happened[0].at == (await world_of_log.email(email_id))["created_at"]
