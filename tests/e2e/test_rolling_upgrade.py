"""From the version before to this one, and back: one process at a time, under load."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.email_send_log.sql import migrations
from sred_email_local.sandbox.rules import Action, Rule
from support.steady_caller import SteadyCaller
from support.version_before import unpack_version_before
from support.world import Service, World

MIGRATIONS_BEFORE = 9
UNANSWERED = re.compile("unanswered")
PATIENCE_S = 90.0
LOAD_A_SECOND = 15


async def launched(world: World, kind: str, env: Mapping[str, str]) -> Service:
    service = world.launch(kind, **env)
    await service.ready(timeout_s=PATIENCE_S)
    return service


async def stopped(service: Service) -> None:
    assert await service.process.stop(grace_s=30) == 0, service.process.log_tail()


@pytest.mark.timeout(400)
async def test_an_upgrade_under_load_one_process_at_a_time_loses_and_doubles_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"PYTHONPATH": unpack_version_before(tmp_path / "before")}
    now: dict[str, str] = {}
    world.least_users = False  # the version before introduces itself to Redis by name, which the least user may not
    world.env["SRED_EMAIL_MAX_ATTEMPTS"] = "1000"
    dsn = world.env["SRED_EMAIL_POSTGRES_DSN"]
    await world.pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with monkeypatch.context() as patch:
        patch.setattr("sred_email_core.email_send_log.migrate.migrations", lambda: migrations()[:MIGRATIONS_BEFORE])
        await migrate(dsn)
    # What the version before began and nobody answered is repeated by this one, with the same bytes.
    world.rules(Rule(action=Action.ACCEPT_THEN_500, subject=UNANSWERED))
    ingress, consumer = await asyncio.gather(launched(world, "ingress", before), launched(world, "consumer", before))
    assert await world.pool.fetchval("SELECT to_regclass('email_leases')") is None  # this version would not be ready
    caller = SteadyCaller(world, [ingress], rate=LOAD_A_SECOND)
    for number in range(3):
        await caller.send(f"unanswered {number}")
    await asyncio.sleep(1)

    assert await migrate(dsn) == [m.name for m in migrations()[MIGRATIONS_BEFORE:]]
    new_consumer = await launched(world, "consumer", now)
    await asyncio.sleep(1)  # both versions take from the same streams
    await stopped(consumer)
    new_ingress = await launched(world, "ingress", now)
    caller.ingresses = [new_ingress, ingress]
    await asyncio.sleep(1)
    caller.ingresses = [new_ingress]
    await stopped(ingress)
    world.rules()

    # And back: the schema stays, and the version before goes on.
    old_consumer = await launched(world, "consumer", before)
    await stopped(new_consumer)
    await asyncio.sleep(1)
    await caller.stop()
    await caller.assert_each_is_delivered_once(timeout_s=PATIENCE_S)
    assert len(caller.email_ids) > 3 * LOAD_A_SECOND
    assert world.logged_errors() == []
    assert old_consumer.process.alive
    print(f"upgraded and rolled back under load: {len(caller.email_ids)} emails, lost 0, doubled 0")  # noqa: T201
