"""What becomes of emails after the provider took them, from a signed webhook to the next email: the running pair."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import grpc
import pytest
from svix.webhooks import Webhook

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_local.sandbox.rules import Action, Rule
from support.world import Service, World, until

SECRET = "whsec_" + base64.b64encode(b"of the endpoint").decode()


async def start(world: World) -> Service:
    """The pair, with webhooks; the ingress."""
    world.env["SRED_EMAIL_RESEND_WEBHOOK_SECRET"] = SECRET
    ingress, _ = await world.start_pair()
    return ingress


async def tell(ingress: Service, email_id: str, kind: str, *, svix_id: str = "", **data: Any) -> int:
    """A webhook about an email; the status of the answer."""
    tags = {"email_id": email_id, "kind": "SYSTEM_NOTIFICATION"}
    told = {"type": kind, "created_at": datetime.now(UTC).isoformat(), "data": {"email_id": "x", "tags": tags, **data}}
    body, at, svix_id = json.dumps(told), datetime.now(UTC), svix_id or f"msg_{uuid.uuid4()}"
    headers = {
        "svix-id": svix_id,
        "svix-timestamp": str(int(at.timestamp())),
        "svix-signature": Webhook(SECRET).sign(svix_id, at, body),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{ingress.http}/webhooks/resend", data=body, headers=headers) as response,
    ):
        return response.status


async def becomes(world: World, email_id: str, delivery: "email_pb2.DeliveryState.ValueType") -> None:
    async def is_it() -> bool:
        return (await world.get_email(email_id)).delivery == delivery

    await until(is_it, f"{email_id} becomes {delivery}")


async def test_after_a_permanent_bounce_the_next_email_to_the_address_ends_suppressed(world: World) -> None:
    ingress = await start(world)
    first = (await world.send("first", to=["Ada <Ada@Example.com>"])).email_id
    await world.wait_for(first, "SUCCESS")
    bounce = {"type": "Permanent", "subType": "General", "message": "No such user."}
    assert await tell(ingress, first, "email.bounced", to=["ada@example.com"], bounce=bounce) == 200
    await becomes(world, first, email_pb2.DELIVERY_STATE_BOUNCED)
    listed = await world.operations().ListSuppressions(pb.ListSuppressionsRequest(), timeout=5)
    (suppression,) = listed.suppressions
    assert (suppression.address, suppression.reason) == ("ada@example.com", email_pb2.SUPPRESSION_REASON_BOUNCED)

    second = (await world.send("second")).email_id
    assert await world.wait_for(second) == "SUPPRESSED"
    assert (await world.send("second")).status == email_pb2.EMAIL_STATUS_SUPPRESSED
    assert world.deliveries("second") == 0
    assert len(world.requests) == 1
    await world.assert_redis_is_clean()

    remove = pb.RemoveSuppressionRequest(address="ADA@example.com")
    await world.operations().RemoveSuppression(remove, timeout=5)
    third = (await world.send("third")).email_id
    assert await world.wait_for(third) == "SUCCESS"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.operations().RemoveSuppression(remove, timeout=5)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_operator_suppresses_an_address_at_once(world: World) -> None:
    await start(world)
    request = pb.AddSuppressionRequest(address="Ada@example.com")
    request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    kept = (await world.operations().AddSuppression(request, timeout=5)).suppression
    assert (kept.address, kept.reason) == ("ada@example.com", email_pb2.SUPPRESSION_REASON_MANUAL)
    assert kept.HasField("created_at")
    assert kept.expires_at == request.expires_at
    some = (await world.send("some", to=["ada@example.com", "bob@example.com"])).email_id
    none = (await world.send("none", to=["ada@example.com"], cc=["bob@example.com"])).email_id
    assert await world.wait_for(some) == "SUCCESS"
    assert await world.wait_for(none) == "SUPPRESSED"
    (delivery,) = world.sandbox.provider.mailbox
    assert dict(delivery.email.source)["to"] == ["bob@example.com"]


async def test_an_event_resolves_an_email_whose_outcome_was_unknown(world: World) -> None:
    world.env |= {"SRED_EMAIL_MAX_ATTEMPTS": "1"}
    ingress = await start(world)
    world.rules(Rule(action=Action.ACCEPT_THEN_RESET))
    email_id = (await world.send("unknown")).email_id
    assert await world.wait_for(email_id) == "FAILED"
    svix_id = f"msg_{uuid.uuid4()}"
    assert await tell(ingress, email_id, "email.delivered", svix_id=svix_id) == 200
    assert await world.wait_for(email_id, "SUCCESS") == "SUCCESS"
    assert await tell(ingress, email_id, "email.delivered", svix_id=svix_id) == 200
    assert (await world.get_email(email_id)).delivery == email_pb2.DELIVERY_STATE_DELIVERED
    listed = await world.operations().ListDeadLetters(pb.ListDeadLettersRequest(), timeout=5)
    assert list(listed.dead_letters) == []

    async def withdrawn() -> bool:
        return await world.redis.xlen(world.keys.dlq) == 0

    await until(withdrawn, "the DLQ shows it no more")
    assert world.deliveries("unknown") == 1


async def test_without_a_secret_there_is_no_door(world: World) -> None:
    ingress = await world.start("ingress")
    assert await tell(ingress, str(uuid.uuid4()), "email.sent") == 404


async def test_postgresql_away_the_provider_is_asked_to_repeat(world: World) -> None:
    ingress = await start(world)
    await world.pool.execute("ALTER TABLE email_webhook_events RENAME TO away")
    assert await tell(ingress, str(uuid.uuid4()), "email.sent") == 503
    await ingress.ready()
    status, metrics = await ingress.get("/metrics")
    assert status == 200
    assert 'sred_email_ingress_webhooks_total{outcome="unavailable"} 1.0' in metrics
