"""The services behind a PgBouncer in transaction mode."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest, ListEmailsRequest
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.sandbox.server import SandboxServer
from support.pgbouncer import PgBouncer, needs_pgbouncer
from support.world import World, email_request, until

pytestmark = needs_pgbouncer

HOLDER = "SELECT holder FROM email_leases WHERE name = 'reconciler' AND expires_at > now()"


@pytest.fixture(autouse=True)
def own_server(postgres: PostgresServer) -> None:
    """One that trusts the pooler: not one that is somebody else's."""
    assert postgres.port


@pytest.fixture
async def world(
    tmp_path: Path, dsn: str, valkey: ValkeyServer, redis: Redis, sandbox: SandboxServer
) -> AsyncIterator[World]:
    """The system with few sessions for all of it; the test itself looks at the server."""
    async with (
        PgBouncer(tmp_path, dsn, sessions=4) as pooler,
        World(tmp_path, dsn, valkey.url, redis, sandbox) as system,
    ):
        system.env["SRED_EMAIL_POSTGRES_DSN"] = pooler.dsn
        yield system


async def test_emails_are_sent_once_and_one_of_two_ingresses_reconciles(world: World) -> None:
    first, second, consumer = world.launch("ingress"), world.launch("ingress"), world.launch("consumer")
    await asyncio.gather(*(service.ready(timeout_s=60) for service in (first, second, consumer)))
    subjects = [f"email {number}" for number in range(60)]
    sent = await asyncio.gather(
        *(
            world.dispatch((first, second)[number % 2]).SendEmail(email_request(subject), timeout=30)
            for number, subject in enumerate(subjects)
        )
    )
    for response in sent:
        assert await world.wait_for(response.email_id, timeout_s=60) == "SUCCESS"
    assert {world.deliveries(subject) for subject in subjects} == {1}
    again = await world.dispatch(first).SendEmail(email_request(subjects[0]), timeout=30)
    assert again.deduplicated
    listed = await world.dispatch(second).ListEmails(ListEmailsRequest(page_size=100), timeout=30)
    assert len(listed.emails) == len(subjects)

    async def reconciler() -> str:
        return str(await world.pool.fetchval(HOLDER) or "")

    holder = await until(reconciler, "one of them reconciles")
    held_by = first if f"-{first.process.pid}-" in holder else second
    assert f"-{held_by.process.pid}-" in holder
    held_by.process.kill()

    async def another() -> bool:
        return await reconciler() not in ("", holder)

    await until(another, "the other one reconciles", timeout_s=30)
    other = second if held_by is first else first
    await world.redis.flushall()
    waiting = email_request("in an hour")
    waiting.send_at.GetCurrentTime()
    waiting.send_at.seconds += 3000
    email_id = (await world.dispatch(other).SendEmail(waiting, timeout=30)).email_id
    await world.dispatch(other).CancelEmail(CancelEmailRequest(email_id=email_id), timeout=30)
    assert await world.status(email_id) == "CANCELLED"
    last = await world.dispatch(other).SendEmail(email_request("after a flush"), timeout=30)
    assert await world.wait_for(last.email_id, timeout_s=60) == "SUCCESS"
