"""What operators do with the running pair."""

from typing import Any

import pytest
from redis.asyncio import Redis

from sred.email.v1 import operations_service_pb2 as pb
from sred_email_local.sandbox.rules import Rule
from support.world import World, until

ADA = "ada.lovelace@example.com"


async def everything_in(redis: Redis) -> str:
    """All that Redis holds, as text."""
    found: list[Any] = []
    async for key in redis.scan_iter():
        match await redis.type(key):
            case b"stream":
                found.append(await redis.xrange(key))
            case b"hash":
                found.append(await redis.hgetall(key))
            case b"zset":
                found.append(await redis.zrange(key, 0, -1))
    return repr(found).lower()


@pytest.fixture
async def pair(world: World) -> World:
    """The pair."""
    await world.start_pair()
    return world


async def test_of_a_person_who_is_erased_neither_redis_nor_postgresql_knows_anything(pair: World) -> None:
    operations = pair.operations()
    sent = (await pair.send("sent", to=[ADA])).email_id
    await pair.wait_for(sent, "SUCCESS")
    pair.rules(Rule(status=422, name="validation_error", message=f"bad: {ADA}"))
    dead = (await pair.send("dead", to=[ADA])).email_id
    await pair.wait_for(dead, "FAILED")
    await operations.PauseDelivery(pb.PauseDeliveryRequest(reason="while we look"), timeout=5)
    waits = (await pair.send("waits", to=["bob@example.com"], bcc=[ADA])).email_id

    async def it_waits() -> bool:
        stats = await operations.GetQueueStats(pb.GetQueueStatsRequest(), timeout=5)
        return sum(lane.waiting for lane in stats.lanes) == 1 and ADA in await everything_in(pair.redis)

    await until(it_waits, "the email waits in Redis")
    answer = await operations.EraseRecipient(pb.EraseRecipientRequest(address=f"Ada <{ADA.upper()}>"), timeout=10)
    assert (answer.erased, answer.deferred) == (3, 0)
    await pair.wait_for(waits, "CANCELLED")
    assert ADA not in await everything_in(pair.redis)
    for table in ("email_send_log", "email_events", "email_dead_letters", "email_audit"):
        assert ADA not in repr(await pair.pool.fetch(f"SELECT * FROM {table}")).lower()  # noqa: S608 - ours
    stats = await operations.GetQueueStats(pb.GetQueueStatsRequest(), timeout=5)
    assert (stats.dead_letters, sum(lane.waiting for lane in stats.lanes)) == (0, 0)
    audit = await operations.ListAuditEntries(pb.ListAuditEntriesRequest(), timeout=5)
    assert [(e.action, e.count, e.detail) for e in audit.entries] == [("ERASE", 3, ""), ("PAUSE", 3, "while we look")]
    assert audit.entries[0].actor.startswith("anonymous (ipv4:127.0.0.1")


async def test_letters_are_looked_at_resolved_and_discarded(pair: World) -> None:
    operations = pair.operations()
    pair.rules(Rule(status=422, name="validation_error"))
    emails = [(await pair.send(f"dead {n}")).email_id for n in range(3)]
    for email_id in emails:
        await pair.wait_for(email_id, "FAILED")
    listed = await operations.ListDeadLetters(pb.ListDeadLettersRequest(), timeout=5)
    letters = {letter.email_id: letter.dead_letter_id for letter in listed.dead_letters}
    one = await operations.GetDeadLetter(pb.GetDeadLetterRequest(dead_letter_id=letters[emails[0]]), timeout=5)
    assert one.dead_letter in listed.dead_letters
    ids = pb.DeadLetterIds(values=[letters[emails[0]]])
    resolving = pb.ResolveDeadLettersRequest(ids=ids, delivered=True, note="she has it")
    assert (await operations.ResolveDeadLetters(resolving, timeout=5)).resolved == 1
    assert (await operations.ResolveDeadLetters(resolving, timeout=5)).resolved == 0
    await pair.wait_for(emails[0], "SUCCESS")
    for remaining in (1, 0):
        discarding = pb.DiscardDeadLettersRequest(all=True, limit=1)
        answer = await operations.DiscardDeadLetters(discarding, timeout=5)
        assert (answer.discarded, answer.remaining) == (1, remaining)
    assert await pair.redis.xlen(pair.keys.dlq) == 0
    assert not (await operations.ListDeadLetters(pb.ListDeadLettersRequest(), timeout=5)).dead_letters
