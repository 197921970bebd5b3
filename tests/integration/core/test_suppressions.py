"""Addresses that get no email: in the log, and in the copy that Redis holds."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from sred_email_core.addresses import digest_of
from sred_email_core.email_send_log.sql import query
from sred_email_core.email_send_log.suppressions import SuppressionLog, suppression_columns
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.suppression_copy import SuppressionCopy

ADA, BOB = "ada@example.com", "bob@example.com"
SOON = timedelta(hours=1)


class Suppressions:
    """The list, and its copy."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
        self.pool, self.redis, self.keys = pool, redis, QueueKeys()
        self.log = SuppressionLog(pool)
        self.copy = SuppressionCopy(self.log, ScriptRunner(redis, self.keys), self.keys)

    async def add(self, address: str = ADA, reason: str = "MANUAL", **fields: Any) -> None:
        await self.log.suppress(address, reason, source="operator", **fields)

    async def told(self, address: str, reason: str, occurred_at: datetime | None = None) -> list[asyncpg.Record]:
        """An event says so."""
        columns = suppression_columns([(address, reason, occurred_at)], "webhook")
        rows: list[asyncpg.Record] = await self.pool.fetch(query("suppress_addresses"), *columns)
        return rows

    async def listed(self) -> list[tuple[str, str]]:
        return [(s.address, s.reason) for s in await self.log.page(address=None, after=None, size=100)]

    async def copied(self, *addresses: str) -> list[str] | None:
        found = await self.copy.suppressed([digest_of(address) for address in addresses])
        return None if found is None else [a for a in addresses if digest_of(a) in found]

    async def version(self) -> int:
        return int(await self.redis.hget(self.keys.suppressions, "version") or 0)


@pytest.fixture
def suppressions(pool: "asyncpg.Pool[Any]", redis: Redis) -> Suppressions:
    return Suppressions(pool, redis)


async def test_an_address_is_suppressed_until_it_is_freed(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.add(BOB)
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA, "eve@example.com", BOB) == [ADA, BOB]
    assert await suppressions.log.free(ADA)
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA, BOB) == [BOB]
    assert await suppressions.listed() == [(BOB, "MANUAL")]
    assert not await suppressions.log.free(ADA)
    await suppressions.add(ADA, "BOUNCED")
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA) == [ADA]


async def test_a_suppression_that_has_expired_counts_no_more(suppressions: Suppressions) -> None:
    await suppressions.add(ADA, expires_at=datetime.now(UTC) + timedelta(milliseconds=1))
    await suppressions.add(BOB, expires_at=datetime.now(UTC) + SOON)
    await suppressions.copy.renew()
    await suppressions.pool.execute("SELECT pg_sleep(0.002)")
    assert await suppressions.copied(ADA, BOB) == [BOB]
    assert await suppressions.listed() == [(BOB, "MANUAL")]
    assert not await suppressions.log.free(ADA)


async def test_no_copy_is_no_empty_list(suppressions: Suppressions) -> None:
    assert await suppressions.copied(ADA) is None
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA) == []
    await suppressions.redis.flushall()
    assert await suppressions.copied(ADA) is None


async def test_a_copy_that_has_lost_its_entries_is_none_and_is_made_again(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.copy.renew()
    await suppressions.redis.delete(suppressions.keys.suppressed)
    assert await suppressions.copied(ADA) is None
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA) == [ADA]


async def test_a_long_list_is_copied_in_pages_and_nobody_goes_by_a_part_of_it(
    suppressions: Suppressions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sred_email_core.queue.suppression_copy._PAGE", 10)
    addresses = [f"{n}@example.com" for n in range(35)]
    for address in addresses:
        await suppressions.add(address)
    partly = await suppressions.log.changes(0, size=10)
    await suppressions.copy._move(0, partly.changes[-1].version, partly.changes)  # noqa: SLF001 - a crash leaves this
    assert await suppressions.copied(ADA) is None
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA, *addresses) == addresses


async def test_changes_of_one_version_are_never_parted(suppressions: Suppressions) -> None:
    told = [(f"{n}@example.com", "BOUNCED", None) for n in range(5)]
    await suppressions.pool.fetch(query("suppress_addresses"), *suppression_columns(told, "webhook"))
    changes = await suppressions.log.changes(0, size=2)
    assert len(changes.changes) == 5


async def test_only_what_has_changed_is_copied(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.copy.renew()
    await suppressions.redis.hset(suppressions.keys.suppressed, digest_of(ADA), "1")  # to tell whether it is written
    await suppressions.add(BOB)
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA, BOB) == [BOB]
    version = await suppressions.version()
    await suppressions.copy.renew()
    assert await suppressions.version() == version


async def test_processes_that_copy_at_once_help_each_other(
    suppressions: Suppressions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sred_email_core.queue.suppression_copy._PAGE", 3)
    addresses = [f"{n}@example.com" for n in range(20)]
    for address in addresses:
        await suppressions.add(address)
    others = [SuppressionCopy(suppressions.log, ScriptRunner(suppressions.redis, suppressions.keys), suppressions.keys)]
    await asyncio.gather(suppressions.copy.renew(), *(other.renew() for other in others * 3))
    assert await suppressions.copied(*addresses) == addresses


async def test_an_older_change_never_replaces_a_newer_copy(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    old = await suppressions.log.changes(0, size=10)
    await suppressions.log.free(ADA)
    await suppressions.copy.renew()
    version = await suppressions.version()
    assert await suppressions.copy._move(0, old.list_version, old.changes, complete=True) == version  # noqa: SLF001 - late
    assert await suppressions.copied(ADA) == []


async def test_a_log_that_was_restored_wins_over_a_copy_that_knows_more(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.add(BOB)
    await suppressions.copy.renew()
    await suppressions.pool.execute("DELETE FROM email_suppressions WHERE address = $1", BOB)
    await suppressions.pool.execute(
        "UPDATE email_operation_settings SET version = version - 1 WHERE name = 'suppressions'"
    )
    before = await suppressions.version()
    await suppressions.copy.renew()
    assert await suppressions.copied(ADA, BOB) == [ADA]
    assert await suppressions.version() > before


async def test_redis_holds_no_address(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.copy.renew()
    fields = await suppressions.redis.hkeys(suppressions.keys.suppressed)
    assert fields == [digest_of(ADA)]
    assert len(fields[0]) == 16


async def test_a_complaint_is_worse_than_a_bounce_and_an_operators_word_stays(suppressions: Suppressions) -> None:
    await suppressions.told(ADA, "BOUNCED")
    await suppressions.told(ADA, "COMPLAINED")
    await suppressions.told(ADA, "BOUNCED")
    await suppressions.add(BOB)
    await suppressions.told(BOB, "COMPLAINED")
    assert await suppressions.listed() == [(ADA, "COMPLAINED"), (BOB, "MANUAL")]
    await suppressions.add(ADA, "MANUAL")
    assert await suppressions.listed() == [(ADA, "MANUAL"), (BOB, "MANUAL")]


async def test_a_bounce_outlasts_a_suppression_that_ends(suppressions: Suppressions) -> None:
    await suppressions.add(ADA, expires_at=datetime.now(UTC) + SOON)
    await suppressions.told(ADA, "BOUNCED")
    (only,) = await suppressions.log.page(address=None, after=None, size=10)
    assert (only.reason, only.expires_at) == ("BOUNCED", None)


async def test_a_late_event_does_not_undo_what_an_operator_freed_since(suppressions: Suppressions) -> None:
    await suppressions.told(ADA, "BOUNCED")
    await suppressions.log.free(ADA)
    assert not await suppressions.told(ADA, "BOUNCED", datetime.now(UTC) - SOON)
    assert await suppressions.listed() == []
    assert await suppressions.told(ADA, "BOUNCED", datetime.now(UTC) + SOON)
    assert await suppressions.listed() == [(ADA, "BOUNCED")]


async def test_pages_go_through_the_list_once(suppressions: Suppressions) -> None:
    addresses = [f"{a}@example.com" for a in "cabed"]
    for address in addresses:
        await suppressions.add(address)
    seen: list[str] = []
    after = None
    for _ in itertools.count():
        page = await suppressions.log.page(address=None, after=after, size=2)
        if not page:
            break
        seen += [s.address for s in page]
        after = seen[-1]
    assert seen == sorted(addresses)
    assert [s.address for s in await suppressions.log.page(address="c@example.com", after=None, size=2)] == [
        "c@example.com"
    ]


async def test_changes_come_in_the_order_in_which_they_were_committed(suppressions: Suppressions) -> None:
    """A version that is told stands for all before it: writers wait for each other."""
    async with suppressions.pool.acquire() as connection, connection.transaction():
        await connection.fetch(query("suppress_addresses"), *suppression_columns([(ADA, "BOUNCED", None)], "webhook"))
        other = asyncio.create_task(suppressions.add(BOB))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(10):
            while not await suppressions.pool.fetchval(waiting):
                await asyncio.sleep(0)
        assert (await suppressions.log.changes(0, size=10)).changes == []
    await other
    changes = await suppressions.log.changes(0, size=10)
    assert [change.digest for change in changes.changes] == [digest_of(ADA), digest_of(BOB)]
