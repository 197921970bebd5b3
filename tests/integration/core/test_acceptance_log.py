"""The log as the ingress uses it, on a real PostgreSQL: one key, one email, whoever comes at the same time."""

import asyncio
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld, new_email

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.records import WrittenEmail
from sred_email_core.errors import LogUnavailableError, UnstorableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port


async def test_an_accepted_email_is_in_the_log_as_it_was_offered(world_of_log: LogWorld) -> None:
    email = new_email("k", recipients=["a@example.com", "b@example.com"], subject="Zażółć 👋", priority="LOW")
    written = await world_of_log.acceptance.accept([email])
    row = await world_of_log.email(str(email.id))
    assert written == {email.id: WrittenEmail(row["created_at"], None)}
    assert abs(datetime.now(UTC) - row["created_at"]) < timedelta(minutes=1)
    assert row["recipients"] == ["a@example.com", "b@example.com"]
    for name in ("idempotency_key", "fingerprint", "kind", "priority", "from_address", "subject", "message"):
        assert row[name] == getattr(email, name)
    assert (row["status"], row["attempts"], row["generation"], row["ended_at"]) == ("QUEUED", 0, 1, None)
    assert await world_of_log.events(str(email.id)) == ["ACCEPTED"]


async def test_an_email_expires_when_its_call_says_whatever_its_lifetime(world_of_log: LogWorld) -> None:
    expire_at = datetime(2999, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    email = new_email("k", expire_at=expire_at, lifetime=timedelta(seconds=1))
    written = await world_of_log.acceptance.accept([email])
    assert written[email.id].expire_at == expire_at
    assert (await world_of_log.email(str(email.id)))["expire_at"] == expire_at
    found = await world_of_log.acceptance.get(email_id=email.id)
    assert found is not None
    assert found.expire_at == expire_at
    assert (await world_of_log.acceptance.find_by_keys(["k"]))["k"].expire_at == expire_at


async def test_a_lifetime_runs_from_acceptance_on_postgresqls_clock(world_of_log: LogWorld) -> None:
    emails = [new_email(lifetime=lifetime) for lifetime in (timedelta(seconds=1.5), timedelta(days=400), None)]
    written = await world_of_log.acceptance.accept(emails)
    for email in emails:
        accepted = written[email.id]
        expected = accepted.created_at + email.lifetime if email.lifetime is not None else None
        assert accepted.expire_at == expected
        assert (await world_of_log.email(str(email.id)))["expire_at"] == expected


async def test_that_an_email_must_travel_alone_is_told_with_its_key(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept(key="k")
    assert not (await world_of_log.acceptance.find_by_keys(["k"]))["k"].alone
    await world_of_log.change(email_id, "alone = true")
    assert (await world_of_log.acceptance.find_by_keys(["k"]))["k"].alone


async def test_open_emails_are_counted_no_further_than_asked(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(5)
    await world_of_log.change(ids[0], "status = 'SUCCESS', ended_at = now()")
    counts = [await world_of_log.acceptance.count_open(at_most=most) for most in (1, 4, 100)]
    assert counts == [1, 4, 4]


async def test_many_emails_are_accepted_in_one_call(world_of_log: LogWorld) -> None:
    emails = [new_email() for _ in range(500)]
    written = await world_of_log.acceptance.accept(emails)
    assert set(written) == {email.id for email in emails}
    assert await world_of_log.count("email_events") == 500


async def test_accepting_nothing_is_nothing(world_of_log: LogWorld) -> None:
    assert await world_of_log.acceptance.accept([]) == {}


async def test_of_emails_with_one_key_in_one_call_one_is_accepted(world_of_log: LogWorld) -> None:
    emails = [new_email("same") for _ in range(5)] + [new_email("other")]
    written = await world_of_log.acceptance.accept(emails)
    assert len(written) == 2
    held = await world_of_log.acceptance.find_by_keys(["same", "other"])
    assert {record.id for record in held.values()} == set(written)
    assert await world_of_log.count("email_events") == 2


async def test_a_key_that_is_held_is_not_accepted_again(world_of_log: LogWorld) -> None:
    first = new_email("k")
    await world_of_log.acceptance.accept([first])
    before = await world_of_log.snapshot()
    assert await world_of_log.acceptance.accept([new_email("k", subject="Other")]) == {}
    assert await world_of_log.snapshot() == before


async def test_a_held_key_fails_none_of_its_neighbours(world_of_log: LogWorld) -> None:
    await world_of_log.acceptance.accept([new_email("b")])
    offered = [new_email(key) for key in ("a", "b", "c")]
    assert set(await world_of_log.acceptance.accept(offered)) == {offered[0].id, offered[2].id}


async def test_calls_that_race_for_one_key_make_one_email(world_of_log: LogWorld) -> None:
    written = await asyncio.gather(*(world_of_log.acceptance.accept([new_email("same")]) for _ in range(30)))
    assert sum(len(w) for w in written) == 1
    assert await world_of_log.count("email_send_log") == 1


async def test_groups_with_keys_in_common_neither_deadlock_nor_double(world_of_log: LogWorld) -> None:
    keys = [f"k{n}" for n in range(60)]

    async def accept_all() -> int:
        shuffled = random.sample(keys, len(keys))
        return len(await world_of_log.acceptance.accept([new_email(key) for key in shuffled]))

    async with asyncio.timeout(20):
        written = await asyncio.gather(*(accept_all() for _ in range(20)))
    assert sum(written) == len(keys)
    assert await world_of_log.count("email_send_log") == len(keys)
    assert await world_of_log.count("email_events") == len(keys)


async def test_groups_of_many_keys_in_common_wait_for_each_other_in_one_direction_only(
    world_of_log: LogWorld,
) -> None:
    statements = _Statements(world_of_log.pool)
    log = AcceptanceLog(statements)  # type: ignore[arg-type]
    keys = [f"k{n:03}" for n in range(300)]
    for turn in range(5):
        groups = [[new_email(f"{turn}{k}") for k in order] for order in (keys, keys[::-1])]
        await asyncio.gather(*(log.accept(group) for group in groups))
    assert statements.run == 10  # a deadlock would have been settled by running one of them again


async def test_the_key_of_a_transaction_that_fails_is_free_again(world_of_log: LogWorld) -> None:
    async with world_of_log.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        blocking = AcceptanceLog(_Statements(connection))  # type: ignore[arg-type]
        assert len(await blocking.accept([new_email("k")])) == 1
        waiting = asyncio.create_task(world_of_log.acceptance.accept([new_email("k")]))
        await world_of_log.until_blocked(waiting)
        assert not waiting.done()
        await transaction.rollback()
    assert len(await waiting) == 1


async def test_the_key_of_a_transaction_that_is_committed_meanwhile_is_held(world_of_log: LogWorld) -> None:
    first = new_email("k")
    async with world_of_log.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await AcceptanceLog(_Statements(connection)).accept([first])  # type: ignore[arg-type]
        waiting = asyncio.create_task(world_of_log.acceptance.accept([new_email("k")]))
        await world_of_log.until_blocked(waiting)
        assert not waiting.done()
        await transaction.commit()
    assert await waiting == {}
    held = await world_of_log.acceptance.find_by_keys(["k"])
    assert held["k"].id == first.id


class _Statements:
    """A pool or connection that counts what is run on it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.run = 0

    async def fetch(self, *args: object) -> list[asyncpg.Record]:
        self.run += 1
        return list(await self._source.fetch(*args))


@pytest.mark.parametrize(
    "bad",
    [
        {"subject": "nul \x00"},
        {"subject": "surrogate \ud800"},
        {"recipients": ["a\x00@example.com"]},
        {"priority": "URGENT"},
        {"fingerprint": b"short"},
    ],
)
async def test_a_value_that_can_not_be_stored_writes_nothing_at_all(
    world_of_log: LogWorld, bad: dict[str, Any]
) -> None:
    with pytest.raises(UnstorableError):
        await world_of_log.acceptance.accept([new_email(), new_email(**bad), new_email()])
    assert await world_of_log.count("email_send_log") == 0


async def test_an_id_that_is_taken_is_no_held_key(world_of_log: LogWorld) -> None:
    first = new_email("a")
    await world_of_log.acceptance.accept([first])
    with pytest.raises(UnstorableError):
        await world_of_log.acceptance.accept([new_email("b", id=first.id)])


async def test_held_keys_tell_what_a_duplicate_call_needs(world_of_log: LogWorld) -> None:
    email = new_email("k", fingerprint=b"x" * 32, priority="LOW", kind="QUOTA_WARNING")
    (written,) = (await world_of_log.acceptance.accept([email])).values()
    found = await world_of_log.acceptance.find_by_keys(["unknown", "k"])
    assert list(found) == ["k"]
    held = found["k"]
    assert (held.id, held.idempotency_key, held.fingerprint) == (email.id, "k", b"x" * 32)
    assert (held.kind, held.priority, held.status) == ("QUOTA_WARNING", "LOW", "QUEUED")
    assert (held.created_at, held.expire_at, held.message) == (written.created_at, None, b"message")


async def test_the_message_of_a_held_key_comes_along_only_while_the_email_waits_to_be_taken(
    world_of_log: LogWorld,
) -> None:
    email = new_email("k")
    await world_of_log.acceptance.accept([email])
    await world_of_log.claimed(str(email.id))
    held = (await world_of_log.acceptance.find_by_keys(["k"]))["k"]
    assert (held.status, held.message) == ("SENDING", None)


async def test_an_email_is_found_by_its_id_and_by_its_key(world_of_log: LogWorld) -> None:
    email = new_email("k")
    await world_of_log.acceptance.accept([email, new_email("other")])
    by_id = await world_of_log.acceptance.get(email_id=email.id)
    by_key = await world_of_log.acceptance.get(idempotency_key="k")
    assert by_id is not None
    assert by_id == by_key
    assert (by_id.id, by_id.recipients, by_id.status, by_id.attempts) == (email.id, ["b@example.com"], "QUEUED", 0)
    assert (by_id.sent_at, by_id.last_error, by_id.delivery, by_id.provider_message_id) == (None, None, None, None)


async def test_an_email_that_does_not_exist_is_not_found(world_of_log: LogWorld) -> None:
    await world_of_log.accept()
    assert await world_of_log.acceptance.get(email_id=uuid.uuid4()) is None
    assert await world_of_log.acceptance.get(idempotency_key="unknown") is None


async def test_a_server_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        with pytest.raises(LogUnavailableError):
            await AcceptanceLog(pool).accept([new_email()])
        with pytest.raises(LogUnavailableError):
            await AcceptanceLog(pool).find_by_keys(["k"])


async def test_what_is_accepted_is_durable_whatever_the_servers_default(dsn: str, world_of_log: LogWorld) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f'ALTER DATABASE "{dsn.rsplit("/", 1)[1]}" SET synchronous_commit = off')
    await connection.close()
    async with open_pool(dsn, max_size=1) as fresh:
        assert await fresh.fetchval("SHOW synchronous_commit") == "on"
    assert await world_of_log.pool.fetchval("SHOW synchronous_commit") == "on"
