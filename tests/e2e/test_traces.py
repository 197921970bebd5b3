"""Traces of emails, from the caller's over the queue to the provider and back: real processes, really exported."""

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator

import pytest
from e2e.test_delivery_truth import SECRET, tell
from e2e.test_log_of_an_email import LOCAL_PART, SECRET_WORD, lines_of, marked
from opentelemetry.trace import TraceFlags

from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest
from sred.email.v1.operations_service_pb2 import PauseDeliveryRequest, ResumeDeliveryRequest
from sred_email_local.sandbox.rules import Rule
from support.collector import Collector, Kept
from support.world import API_KEY, Service, World, email_request, until

_numbers = itertools.count(1)
ACCEPTED = ["sred.email.v1.EmailDispatchService/SendEmail", "send sred:email:send"]
OPERATIONS = "sred.email.v1.EmailOperationsService"
ATTEMPT = ["process sred:email:send", "POST /emails"]


@pytest.fixture
async def collector(world: World) -> AsyncIterator[Collector]:
    """Where the services of the world export their spans."""
    async with Collector() as opened:
        world.env |= {**opened.env, "SRED_EMAIL_RESEND_WEBHOOK_SECRET": SECRET}
        yield opened


def a_trace(*, sampled: bool = True) -> tuple[str, str]:
    """The id of a caller's trace, and its traceparent."""
    trace_id = f"{next(_numbers):032x}"
    return trace_id, f"00-{trace_id}-00f067aa0ba902b7-{sampled:02x}"


async def send(world: World, subject: str, traceparent: str | None, **metadata: str) -> str:
    """Send one email within a trace; its id."""
    pairs = [(name, value) for name, value in ({"traceparent": traceparent} | metadata).items() if value is not None]
    return (await world.dispatch().SendEmail(email_request(subject), timeout=5, metadata=pairs)).email_id


async def whole(collector: Collector, trace_id: str, *names: str) -> list[Kept]:
    """Wait until a trace has these spans, and has them in this order; the spans."""

    async def there() -> bool:
        return len(collector.of(trace_id)) >= len(names)

    await until(there, f"the trace has {names}, and not {[s.name for s in collector.of(trace_id)]}")
    spans = collector.of(trace_id)
    assert [span.name for span in spans] == list(names)
    return spans


def trace_ids(services: list[Service], email_id: str) -> dict[str, set[str | None]]:
    """By event, the traces that lines of the log about an email name."""
    found: dict[str, set[str | None]] = {}
    for line in lines_of(*services):
        if line["level"] != "debug" and email_id in json.dumps(line):
            found.setdefault(line["event"], set()).add(line.get("trace_id"))
    return found


async def test_one_trace_leads_from_the_call_over_each_attempt_to_the_provider_and_to_what_it_tells_later(
    world: World, collector: Collector
) -> None:
    ingress, consumer = await world.start_pair(timeout_s=60)
    trace_id, traceparent = a_trace()
    world.rules(Rule(status=500, name="internal_server_error", times=1))
    email_id = await send(world, "traced", traceparent, baggage=f"a={SECRET_WORD}", tracestate=f"a={SECRET_WORD}")
    assert await world.wait_for(email_id) == "SUCCESS"
    call, accepted, first, failed, second, posted = await whole(collector, trace_id, *ACCEPTED, *ATTEMPT, *ATTEMPT)

    assert [s.kind for s in (call, accepted, first, failed)] == ["SERVER", "PRODUCER", "CONSUMER", "CLIENT"]
    assert (call.service, first.service) == ("sred-email-ingress", "sred-email-consumer")
    assert call.span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert accepted.span.parent_span_id == call.span.span_id
    assert {s.span.parent_span_id for s in (first, second)} == {accepted.span.span_id}
    assert {failed.span.parent_span_id, posted.span.parent_span_id} == {first.span.span_id, second.span.span_id}
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert accepted.attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "sred:email:send",
        "messaging.message.id": email_id,
        "sred.email.kind": "SYSTEM_NOTIFICATION",
        "sred.email.outcome": "accepted",
    }
    assert (first.links, second.attributes["messaging.message.id"]) == ({email_id: trace_id}, email_id)
    assert (first.failed, first.attributes["sred.email.outcome"]) == (True, "outcome_unknown")
    assert (failed.failed, failed.attributes["http.response.status_code"]) == (True, 500)
    assert (second.failed, second.attributes["sred.email.attempt"]) == (False, 2)
    assert (posted.attributes["http.response.status_code"], posted.attributes["http.request.resend_count"]) == (200, 1)

    assert [request.traceparent for request in world.requests] == [failed.traceparent(), posted.traceparent()]
    assert len({request.body_sha256 for request in world.requests}) == 1
    assert await tell(ingress, email_id, "email.delivered") == 200
    *_, told = await whole(collector, trace_id, *ACCEPTED, *ATTEMPT, *ATTEMPT, "process webhook")
    assert (told.span.parent_span_id, told.attributes["sred.email.delivery"]) == (accepted.span.span_id, "DELIVERED")

    traces = trace_ids([ingress, consumer], email_id)
    story = ("emails_accepted", "attempt_failed", "emails_sent", "delivery_told")
    told_of_call = {event: traces[event] for event in story}
    assert all(found == {trace_id} for found in told_of_call.values()), told_of_call
    lost_id, traceparent = a_trace()
    await pause(world)
    email_id = await send(world, "lost", traceparent)
    await world.redis.flushall()
    await until(lambda: waits(world), "the reconciler publishes it again")
    await world.operations().ResumeDelivery(ResumeDeliveryRequest(), timeout=5)
    assert await world.wait_for(email_id) == "SUCCESS"
    await whole(collector, lost_id, *ACCEPTED, *ATTEMPT)

    exported = b"".join(export.SerializeToString() for export in collector.exports)
    assert not re.search(f"{SECRET_WORD}|{API_KEY}|ada@|key-traced|tracestate|baggage".encode(), exported)


async def pause(world: World) -> None:
    """Let emails wait on their streams."""
    await world.operations().PauseDelivery(PauseDeliveryRequest(reason="test"), timeout=5)


async def sent(world: World, *email_ids: str) -> None:
    """Let emails that wait go out, in one request."""
    requests = len(world.requests)
    await world.operations().ResumeDelivery(ResumeDeliveryRequest(), timeout=5)
    for email_id in email_ids:
        assert await world.wait_for(email_id) == "SUCCESS"
    assert len(world.requests) == requests + 1


async def waits(world: World) -> bool:
    """Whether an email is on the stream of the middle lane."""
    return bool(await world.redis.xlen(world.keys.streams[1]))


async def test_a_batch_has_one_span_with_a_link_to_the_trace_of_each_email(world: World, collector: Collector) -> None:
    world.env["SRED_EMAIL_CONSUMER_SLOTS"] = "1"
    services = list(await world.start_pair(timeout_s=60))
    traces = dict([a_trace() for _ in range(3)])
    unkept, not_sampled = a_trace(sampled=False)
    malformed = "00-" + "0" * 32 + "-00f067aa0ba902b7-01"
    await pause(world)
    ids = {await send(world, f"batch {trace_id}", named): trace_id for trace_id, named in traces.items()}
    ids[await send(world, "not kept", not_sampled)] = unkept
    ids[await send(world, "malformed", malformed)] = ""
    await sent(world, *ids)

    async def exported() -> bool:
        return bool(collector.named("POST /emails/batch") and collector.named(ATTEMPT[0]))

    await until(exported, "the request is exported")
    (posted,), (worked,) = collector.named("POST /emails/batch"), collector.named(ATTEMPT[0])
    assert (worked.trace_id, worked.attributes["messaging.batch.message_count"]) == (posted.trace_id, 5)
    own = next(span.trace_id for span in collector.named(ACCEPTED[1]) if span.trace_id not in traces)
    assert worked.links == {email_id: trace_id or own for email_id, trace_id in ids.items()}
    assert worked.trace_id not in worked.links.values()
    assert not collector.of(unkept)
    for email_id, trace_id in ids.items():
        told = trace_ids(services, email_id)
        assert (told["emails_accepted"], told["emails_sent"]) == ({trace_id or own}, {worked.trace_id})

    # Whether a trace is kept its caller decides, also where nobody's is.
    collector.exports.clear()
    await pause(world)
    await sent(world, *[await send(world, f"none kept {n}", not_sampled) for n in range(2)])
    for service in services:
        await service.process.stop()
    assert {span.name for span in collector} <= {f"{OPERATIONS}/PauseDelivery", f"{OPERATIONS}/ResumeDelivery"}
    named = world.requests[-1].traceparent
    assert named is not None
    assert int(named[-2:], 16) & TraceFlags.SAMPLED == 0


async def test_a_collector_that_hangs_holds_up_neither_emails_nor_the_end_of_the_processes(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        world.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        world.env |= {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
        world.env |= {"SRED_EMAIL_DRAIN_TIMEOUT": "1"}
        services = list(await world.start_pair(timeout_s=60))
        requests = [email_request(**marked(f"hang {n}", "good")) for n in range(20)]
        answer = await world.dispatch().BatchSendEmails(BatchSendEmailsRequest(requests=requests), timeout=5)
        for result in answer.results:
            assert await world.wait_for(result.response.email_id) == "SUCCESS"
        began = asyncio.get_running_loop().time()
        for service in services:
            await service.process.stop()
        assert asyncio.get_running_loop().time() - began < 6
        assert [service.process.exit_code for service in services] == [0, 0]
    lines = lines_of(*services)
    assert "spans_dropped" in {line["event"] for line in lines}
    assert LOCAL_PART not in json.dumps(lines)
