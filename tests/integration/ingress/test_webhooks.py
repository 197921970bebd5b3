"""Webhooks from a signed request to the email that it is about."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from integration.core.log_builder import LogWorld, accepted
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from svix.webhooks import Webhook

from sred_email_core.email_send_log.webhook_events import WebhookEvent, WebhookLog
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import ParkedInSend, QueueScripts
from sred_email_ingress.webhooks.composition import build_webhooks
from sred_email_ingress.webhooks.receiver import MAX_BODY_BYTES, PATH

SECRET = "whsec_" + base64.b64encode(b"a secret of the endpoint").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"the one before it").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"somebody else's").decode()


class Door:
    """An ingress' webhooks in this process, and a provider that calls them."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
        self.log = LogWorld(pool)
        self.pool, self.redis, self.keys = pool, redis, QueueKeys()
        runner = ScriptRunner(redis, self.keys)
        self.scripts = QueueScripts(runner, self.keys)
        self.registry = CollectorRegistry()
        self.webhooks = build_webhooks((SECRET, OLD_SECRET), pool, runner, self.keys, self.registry)
        self.worker = self.webhooks.worker
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes([self.webhooks.receiver.route])
        self.client = TestClient(TestServer(app))

    async def post(self, body: str, headers: dict[str, str]) -> tuple[int, str]:
        async with self.client.post(PATH, data=body.encode(), headers=headers) as response:
            return response.status, (await response.json())["outcome"]

    async def tell(self, kind: str, svix_id: str = "", **data: Any) -> tuple[int, str]:
        body = json.dumps({"type": kind, "created_at": datetime.now(UTC).isoformat(), "data": data})
        return await self.post(body, signed(body, svix_id=svix_id or f"msg_{uuid.uuid4()}"))

    async def tell_of(self, email_id: str, kind: str, **data: Any) -> None:
        tags = {"email_id": email_id, "kind": "WELCOME"}
        values = {"email_id": f"provider-{email_id}", "to": ["b@example.com"], "tags": tags, **data}
        assert await self.tell(kind, **values) == (200, "stored")

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("sred_email_ingress_webhooks_total", {"outcome": outcome}) or 0.0


def signed(body: str, *, secret: str = SECRET, at: datetime | None = None, svix_id: str = "msg_1") -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign(svix_id, at, body)
    return {"svix-id": svix_id, "svix-timestamp": str(int(at.timestamp())), "svix-signature": signature}


@pytest.fixture
async def door(pool: "asyncpg.Pool[Any]", redis: Redis) -> AsyncIterator[Door]:
    door = Door(pool, redis)
    async with door.client:
        yield door


BODY = json.dumps({"type": "email.delivered", "data": {"email_id": "provider-1"}})


async def test_a_signed_event_is_kept_before_it_is_answered(door: Door) -> None:
    assert await door.post(BODY, signed(BODY)) == (200, "stored")
    assert await door.log.count("email_webhook_events") == 1
    assert door.count("stored") == 1


async def test_while_a_secret_is_replaced_both_are_good(door: Door) -> None:
    assert await door.post(BODY, signed(BODY, secret=OLD_SECRET)) == (200, "stored")


@pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(minutes=-6), timedelta(days=1)])
async def test_an_old_signature_is_refused_and_so_is_one_from_the_future(door: Door, age: timedelta) -> None:
    assert await door.post(BODY, signed(BODY, at=datetime.now(UTC) - age)) == (401, "forged")
    assert await door.log.count("email_webhook_events") == 0


async def test_a_forged_request_is_refused(door: Door) -> None:
    good = signed(BODY)
    for bad in (
        signed(BODY, secret=OTHER_SECRET),
        signed(BODY + " "),
        {**good, "svix-id": "msg_2"},
        {**good, "svix-timestamp": "soon"},
        {**good, "svix-signature": "v1"},
        {**good, "svix-signature": "v1,a,b"},
        {**good, "svix-signature": "v1,!"},
        {**good, "svix-signature": good["svix-signature"].replace("v1,", "v2,")},
    ):
        assert await door.post(BODY, bad) == (401, "forged"), bad
    assert await door.log.count("email_webhook_events") == 0


@pytest.mark.parametrize("missing", ["svix-id", "svix-timestamp", "svix-signature"])
async def test_an_unsigned_request_is_refused(door: Door, missing: str) -> None:
    headers = signed(BODY)
    del headers[missing]
    assert await door.post(BODY, headers) == (400, "forged")


async def test_bytes_that_are_no_text_are_refused(door: Door) -> None:
    async with door.client.post(PATH, data=b"\xff\xfe", headers=signed(BODY)) as response:
        assert response.status == 401


async def test_a_huge_body_is_refused(door: Door) -> None:
    huge = "x" * (MAX_BODY_BYTES + 1)
    assert await door.post(huge, signed(huge)) == (413, "too_large")


async def test_an_event_that_is_delivered_again_is_answered_and_done_once(door: Door) -> None:
    headers = signed(BODY)
    answers = await asyncio.gather(*(door.post(BODY, headers) for _ in range(10)))
    assert sorted(answers) == [(200, "duplicate")] * 9 + [(200, "stored")]
    await door.worker.run_once()
    assert await door.post(BODY, headers) == (200, "duplicate")
    assert await door.log.count("email_webhook_events") == 1


async def test_events_that_say_nothing_here_are_answered_and_not_kept(door: Door) -> None:
    assert await door.tell("email.opened", email_id="provider-1") == (200, "ignored")
    assert await door.tell("email.sent") == (400, "unusable")
    assert await door.log.count("email_webhook_events") == 0


async def test_while_postgresql_is_away_the_provider_is_asked_to_repeat(door: Door) -> None:
    await door.pool.execute("ALTER TABLE email_webhook_events RENAME TO away")
    assert await door.post(BODY, signed(BODY)) == (503, "unavailable")
    await door.pool.execute("ALTER TABLE away RENAME TO email_webhook_events")
    assert await door.post(BODY, signed(BODY)) == (200, "stored")


async def test_an_event_closes_the_email_and_takes_it_out_of_redis(door: Door) -> None:
    (email_id,) = await door.log.accept()
    await door.log.retrying(email_id)
    await door.scripts.park_sends("me", [ParkedInSend(email_id, email_id, timedelta(hours=1))], entitled=True)
    assert await door.redis.zcard(door.keys.retry) == 1
    await door.tell_of(email_id, "email.delivered")
    await door.worker.run_once()
    row = await door.log.email(email_id)
    assert (row["status"], row["delivery"]) == ("SUCCESS", "DELIVERED")
    assert await door.redis.zcard(door.keys.retry) == await door.redis.hlen(door.keys.places) == 0


async def test_an_event_takes_a_dead_letter_out_of_the_dlq(door: Door) -> None:
    (email_id,) = await door.log.accept()
    letters = await door.log.buried(email_id, reason="OUTCOME_UNKNOWN")
    fields = {b"dead_letter_id": letters[email_id].encode(), b"email_id": email_id.encode()}
    await door.scripts.bury("me", dead_letter_id=letters[email_id], email_id=email_id, source=None, fields=fields)
    assert await door.redis.xlen(door.keys.dlq) == 1
    await door.tell_of(email_id, "email.delivered")
    await door.worker.run_once()
    assert (await door.log.email(email_id))["status"] == "SUCCESS"
    assert (await door.log.letter(letters[email_id]))["resolution"] == "DELIVERED"
    assert await door.redis.xlen(door.keys.dlq) == 0


async def test_a_permanent_bounce_suppresses_its_address_in_both_at_once(door: Door) -> None:
    (email_id,) = await door.log.accept()
    claim = await door.log.claimed(email_id)
    await door.log.log.record_answers([accepted(claim.send_id, email_id)])
    await door.tell_of(email_id, "email.bounced", bounce={"type": "Permanent", "subType": "General", "message": "No."})
    await door.worker.run_once()
    row = await door.log.one("SELECT address, reason, source, expires_at FROM email_suppressions")
    assert tuple(row) == ("b@example.com", "BOUNCED", "webhook", None)
    assert await door.redis.hlen(door.keys.suppressed) == 1
    assert (await door.log.email(email_id))["last_error"] == "Permanent: General: No."


async def test_while_redis_is_away_events_are_worked(door: Door) -> None:
    (email_id,) = await door.log.accept()
    await door.log.retrying(email_id)
    await door.redis.set(door.keys.places, "another type")  # what Redis refuses is as if it were away
    await door.redis.set(door.keys.suppressed, "another type")
    await door.tell_of(email_id, "email.complained")
    assert not await door.worker.run_once()
    assert (await door.log.email(email_id))["delivery"] == "COMPLAINED"
    assert await door.log.count("email_suppressions") == 1


async def test_the_loop_works_what_it_finds_at_its_start_and_what_arrives(door: Door) -> None:
    first, second = await door.log.accept(2)
    await door.tell_of(first, "email.sent")  # whoever took it is gone
    stop = asyncio.Event()
    running = asyncio.create_task(door.worker.run(stop))
    await _until(door, first)
    await door.tell_of(second, "email.sent")
    await _until(door, second)
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_an_event_that_no_statement_can_take_holds_up_no_other(door: Door) -> None:
    first, second = await door.log.accept(2)
    await door.tell_of(first, "email.sent")
    await door.tell_of(second, "email.sent")
    await door.pool.execute(
        f"ALTER TABLE email_send_log ADD CONSTRAINT odd CHECK (id <> '{first}' OR status <> 'SUCCESS')"
    )
    while await door.worker.run_once():
        pass
    assert (await door.log.email(second))["status"] == "SUCCESS"
    row = await door.log.one("SELECT tries, worked_at FROM email_webhook_events WHERE email_id = $1", uuid.UUID(first))
    assert tuple(row) == (1, None)


async def test_a_page_of_events_is_followed_by_the_next(door: Door) -> None:
    ids = await door.log.accept(120)
    events = [WebhookEvent(f"msg-{i}", "SENT", uuid.UUID(i), None) for i in ids]
    await WebhookLog(door.pool).store(events)
    assert await door.worker.run_once()
    assert not await door.worker.run_once()
    assert await door.pool.fetchval("SELECT count(*) FROM email_send_log WHERE status = 'SUCCESS'") == 120
    assert door.registry.get_sample_value("sred_email_ingress_webhooks_lag_seconds") == 0


async def test_while_there_is_more_than_can_be_worked_the_lag_shows(door: Door) -> None:
    events = [WebhookEvent(f"msg-{n}", "SENT", None, f"provider-{n}") for n in range(202)]
    await WebhookLog(door.pool).store(events)
    await door.pool.execute("UPDATE email_webhook_events SET due_at = now() - interval '1 hour'")
    assert await door.worker.run_once()
    assert (door.registry.get_sample_value("sred_email_ingress_webhooks_lag_seconds") or 0) > 3500


async def test_a_failure_of_the_loop_itself_does_not_end_it(door: Door) -> None:
    (email_id,) = await door.log.accept()
    await door.pool.execute("ALTER TABLE email_webhook_events RENAME COLUMN suppress TO mislaid")
    stop = asyncio.Event()
    running = asyncio.create_task(door.worker.run(stop))
    done, _ = await asyncio.wait([running], timeout=0.3)
    assert not done
    await door.pool.execute("ALTER TABLE email_webhook_events RENAME COLUMN mislaid TO suppress")
    await door.tell_of(email_id, "email.sent")
    await _until(door, email_id)
    stop.set()
    await asyncio.wait_for(running, 5)


async def _until(door: Door, email_id: str) -> None:
    async with asyncio.timeout(10):
        while (await door.log.email(email_id))["status"] != "SUCCESS":
            await asyncio.sleep(0.01)
