"""WatchEmails and GetEmailTimeline on the running pair."""

import asyncio
import signal
import uuid

import grpc
import pytest

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import WatchEmailsRequest, WatchEmailsResponse
from sred.email.v1.operations_service_pb2 import GetEmailTimelineRequest
from sred_email_local.sandbox.rules import Rule
from support.world import World


async def test_a_watcher_sees_an_email_through_and_a_stop_sends_it_on_to_another_ingress(world: World) -> None:
    ingress, _ = await world.start_pair()
    world.rules(Rule(status=503, name="internal_server_error", message="Not now.", times=1))
    watch = world.dispatch(ingress).WatchEmails(WatchEmailsRequest(), timeout=60)
    await watch.initial_metadata()
    email_id = (await world.send("watched")).email_id
    told: list[WatchEmailsResponse] = []
    while not told or told[-1].event.status != email_pb2.EMAIL_STATUS_SUCCESS:
        response = await asyncio.wait_for(watch.read(), 15)
        assert isinstance(response, WatchEmailsResponse)
        told.append(response)
    assert [(t.event.email_id, email_pb2.EmailStatus.Name(t.event.status)[13:], t.event.attempt) for t in told] == [
        (email_id, "QUEUED", 0),
        (email_id, "RETRYING", 1),
        (email_id, "SUCCESS", 2),
    ]
    timeline = await world.operations().GetEmailTimeline(GetEmailTimelineRequest(email_id=email_id), timeout=5)
    entries = [(entry.what, entry.detail, entry.attempt, bool(entry.consumer)) for entry in timeline.entries]
    assert entries == [
        ("ACCEPTED", "", 0, False),
        ("ATTEMPT_FAILED", told[1].event.reason, 1, True),
        ("SENT", told[2].event.provider_message_id, 2, True),
    ]
    for unknown, code in (("nonsense", "INVALID_ARGUMENT"), (str(uuid.uuid4()), "NOT_FOUND")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.operations().GetEmailTimeline(GetEmailTimelineRequest(email_id=unknown), timeout=5)
        assert refused.value.code().name == code
    ingress.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(watch.read(), 5)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await ingress.process.wait(5) == 0
    other = await world.start("ingress")
    again = world.dispatch(other).WatchEmails(WatchEmailsRequest(resume_token=told[0].resume_token), timeout=60)
    for expected in told[1:]:
        assert await asyncio.wait_for(again.read(), 10) == expected
    again.cancel()
