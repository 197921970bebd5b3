"""Weather as operators and the provider see it: real processes, real time."""

import asyncio

from sred.email.v1 import email_pb2
from sred.email.v1.operations_service_pb2 import (
    DispatchState,
    GetQueueStatsRequest,
    GetQueueStatsResponse,
    PauseDeliveryRequest,
    ResumeDeliveryRequest,
)
from sred_email_local.sandbox.rules import Rule
from support.world import World, until

_LIMIT_PER_S = "10"


async def stats(world: World) -> GetQueueStatsResponse:
    """GetQueueStats."""
    return await world.operations().GetQueueStats(GetQueueStatsRequest(), timeout=5)


async def reached(world: World, state: "DispatchState.ValueType") -> GetQueueStatsResponse:
    """Wait for a state."""

    async def is_in_it() -> bool:
        return (await stats(world)).dispatch_state == state

    await until(is_in_it, f"the state becomes {DispatchState.Name(state)}")
    return await stats(world)


async def test_a_bad_key_is_shown_everywhere_and_delivery_goes_on_by_itself(world: World) -> None:
    _, consumer = await world.start_pair()
    world.rules(Rule(status=401, name="invalid_api_key", message="API key is invalid"))
    ids = [(await world.send(f"key {n}")).email_id for n in range(5)]
    shown = await reached(world, DispatchState.DISPATCH_STATE_MISCONFIGURED)
    assert "API key is invalid" in shown.dispatch_reason
    body = await consumer.ready(503)
    assert (body["dispatch_state"], "API key" in body["dispatch_reason"]) == ("MISCONFIGURED", True)
    _, metrics = await consumer.get("/metrics")
    assert 'sred_email_consumer_dispatch_state{state="MISCONFIGURED"} 1.0' in metrics
    world.rules()
    for email_id in ids:
        assert await world.wait_for(email_id) == "SUCCESS"
        assert (await world.get_email(email_id)).attempts == 1
    assert (await consumer.ready())["dispatch_state"] == "RUNNING"


async def test_an_outage_of_seconds_costs_no_attempts_and_one_probe_an_interval(world: World) -> None:
    await world.start("ingress")
    consumers = [await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="4") for _ in range(2)]
    world.rules(Rule(status=503, name="service_unavailable"))
    ids = [(await world.send(f"outage {n}")).email_id for n in range(40)]
    await reached(world, DispatchState.DISPATCH_STATE_PROVIDER_DOWN)

    async def shown() -> bool:
        body = await consumers[0].ready()  # 200: it is not for us to mend
        return str(body["dispatch_state"]) == "PROVIDER_DOWN"

    await until(shown, "readyz names the state")
    began, before = asyncio.get_running_loop().time(), len(world.requests)
    await until(lambda: _made(world, before + 4), "four probes go out")
    assert asyncio.get_running_loop().time() - began > 3 * 0.9
    world.rules()
    for email_id in ids:
        assert await world.wait_for(email_id, timeout_s=30) == "SUCCESS"
        assert (await world.get_email(email_id)).attempts <= 2
    assert all(world.deliveries(f"outage {n}") == 1 for n in range(40))


async def _made(world: World, requests: int) -> bool:
    return len(world.requests) >= requests


async def test_pausing_one_lane_and_all(world: World) -> None:
    await world.start_pair()
    await world.operations().PauseDelivery(PauseDeliveryRequest(priority=email_pb2.PRIORITY_HIGH, reason="why"))
    high = (await world.send("high", kind=email_pb2.EMAIL_KIND_WELCOME)).email_id
    normal = (await world.send("normal")).email_id
    assert await world.wait_for(normal) == "SUCCESS"
    shown = await stats(world)
    assert [lane.paused for lane in shown.lanes] == [True, False, False]
    assert (shown.lanes[0].waiting, shown.dispatch_state) == (1, DispatchState.DISPATCH_STATE_RUNNING)
    await world.operations().PauseDelivery(PauseDeliveryRequest(reason="maintenance"))
    shown = await reached(world, DispatchState.DISPATCH_STATE_PAUSED)
    assert shown.dispatch_reason == "maintenance"
    await world.redis.flushall()
    other = (await world.send("other")).email_id
    await until(lambda: _waits(world), "both emails wait on their streams again")
    await world.operations().ResumeDelivery(ResumeDeliveryRequest())
    assert [await world.wait_for(email_id) for email_id in (high, other)] == ["SUCCESS", "SUCCESS"]


async def _waits(world: World) -> bool:
    shown = await stats(world)
    assert shown.dispatch_state in {DispatchState.DISPATCH_STATE_PAUSED, DispatchState.DISPATCH_STATE_RUNNING}
    assert not world.deliveries("other")
    return (
        sum(lane.waiting for lane in shown.lanes) == 2 and shown.dispatch_state == DispatchState.DISPATCH_STATE_PAUSED
    )


async def test_hazard_13_two_consumers_at_the_limit_cause_not_one_429(world: World) -> None:
    await world.start("ingress")
    limit = {"SRED_EMAIL_RESEND_REQUESTS_PER_SECOND": _LIMIT_PER_S, "SRED_EMAIL_RESEND_BATCH_SIZE": "1"}
    for _ in range(2):
        await world.start("consumer", **limit)
    ids = [(await world.send(f"limited {n}")).email_id for n in range(40)]
    for email_id in ids:
        await world.wait_for(email_id, "SUCCESS", timeout_s=30)
    requests = sorted(request.at for request in world.requests)
    assert {request.status for request in world.requests} == {200}
    assert all(later - earlier > 0.95 for earlier, later in zip(requests, requests[10:], strict=False))
