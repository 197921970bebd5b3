"""Both clients on the wire: repeats, deadlines, tokens, watches."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from opentelemetry import trace
from unit.client.service_double import ServiceDouble, later, status

from sred.email.v1.dispatch_service_pb2_grpc import add_EmailDispatchServiceServicer_to_server
from sred.email.v1.email_pb2 import EMAIL_STATUS_CANCELLED, EMAIL_STATUS_SUCCESS
from sred_email_client import (
    DeadlineExceededError,
    EmailClient,
    EmailStatus,
    FailedPreconditionError,
    InvalidRequestError,
    OutgoingEmail,
    OverloadedError,
    RequestTooLargeError,
    ResumeTokenExpiredError,
    RetryPolicy,
    SendResult,
    SyncEmailClient,
    UnavailableError,
    UnexpectedError,
)
from support.awaited import Awaited

HAS_ENDED = status(grpc.StatusCode.FAILED_PRECONDITION, ErrorInfo(reason="HAS_ENDED"))
AWAY, FULL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
QUICK = RetryPolicy(base_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=2))
WELCOME: Any = {"idempotency_key": "k", "kind": "WELCOME", "to": "a@example.com", "subject": "Hi", "text": "Hi"}


@pytest.fixture
async def service() -> AsyncIterator[ServiceDouble]:
    double, server = ServiceDouble(), grpc.aio.server()
    add_EmailDispatchServiceServicer_to_server(double, server)
    double.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield double
    await server.stop(None)


@pytest.fixture(params=[EmailClient, SyncEmailClient])
async def client(request: pytest.FixtureRequest, service: ServiceDouble) -> AsyncIterator[EmailClient]:
    if request.param is EmailClient:
        async with EmailClient(service.address, token="secret", retry=QUICK) as opened:
            yield opened
    else:
        with SyncEmailClient(service.address, token="secret", retry=QUICK) as sync:
            yield cast("EmailClient", Awaited(sync))


@pytest.mark.parametrize("refusal", [status(AWAY), later(AWAY), later(FULL)])
async def test_a_call_is_repeated_as_it_is_while_the_service_is_away_or_full(
    client: EmailClient, service: ServiceDouble, refusal: Any
) -> None:
    service.answers = [refusal, refusal]
    assert (await client.send(**WELCOME)).email_id == "id of k"
    assert len(service.asked) == 3
    assert service.asked[0] == service.asked[2]


async def test_the_service_is_not_asked_again_before_it_wants_to_be(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.answers = [later(FULL, 0.15)]
    started = time.monotonic()
    await client.send(**WELCOME)
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (status(FULL), RequestTooLargeError),  # gRPC's own words, of a message that is too large
        (status(grpc.StatusCode.INVALID_ARGUMENT, BadRequest()), InvalidRequestError),
        (status(grpc.StatusCode.INTERNAL), UnexpectedError),
        (later(grpc.StatusCode.DEADLINE_EXCEEDED), DeadlineExceededError),
    ],
)
async def test_what_a_repeat_does_not_mend_is_raised_at_once(
    client: EmailClient, service: ServiceDouble, refusal: Any, error: type[Exception]
) -> None:
    service.answers = [refusal]
    with pytest.raises(error):
        await client.send(**WELCOME)
    assert len(service.asked) == 1


async def test_a_service_that_wants_more_time_than_there_is_is_given_up_at_once(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.answers = [later(FULL, 0.9)]
    started = time.monotonic()
    with pytest.raises(OverloadedError) as given_up:
        await client.send(timeout=0.5, **WELCOME)
    assert given_up.value.retry_after == timedelta(seconds=0.9)
    assert time.monotonic() - started < 0.4


@pytest.mark.parametrize("kind", [EmailClient, SyncEmailClient])
async def test_nobody_there_is_unavailable_after_the_timeout(kind: Any) -> None:
    started, client = time.monotonic(), kind("127.0.0.1:1", timeout=0.3)
    if kind is EmailClient:
        async with client:
            with pytest.raises(UnavailableError):
                await client.send(**WELCOME)
    else:
        with client, pytest.raises(UnavailableError):
            client.send(**WELCOME)
    assert time.monotonic() - started < 1


async def test_a_cancellation_whose_first_answer_was_lost_is_answered_by_the_second(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.answers, service.status = [status(AWAY), HAS_ENDED], EMAIL_STATUS_CANCELLED
    assert (await client.cancel("1")).status is EmailStatus.CANCELLED
    assert [type(asked).__name__ for asked in service.asked] == ["CancelEmailRequest"] * 2 + ["GetEmailRequest"]


async def test_what_was_cancelled_by_another_call_or_has_ended_otherwise_is_refused(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.answers, service.status = [HAS_ENDED], EMAIL_STATUS_CANCELLED
    with pytest.raises(FailedPreconditionError):
        await client.cancel("1")
    service.answers, service.status = [status(AWAY), HAS_ENDED], EMAIL_STATUS_SUCCESS
    with pytest.raises(FailedPreconditionError):
        await client.cancel("1")


async def test_a_missing_key_is_an_error_before_any_call(client: EmailClient, service: ServiceDouble) -> None:
    with pytest.raises(InvalidRequestError, match="idempotency_key: is required"):
        await client.send(**{**WELCOME, "idempotency_key": ""})
    assert service.asked == []


async def test_the_token_goes_with_each_call(client: EmailClient, service: ServiceDouble) -> None:
    await client.get("1")
    assert service.metadata[0]["authorization"] == "Bearer secret"


async def test_a_token_that_changes_is_asked_anew_for_each_call(service: ServiceDouble) -> None:
    tokens = iter(["old", "new"])
    async with EmailClient(service.address, token=lambda: next(tokens)) as client:
        await client.get("1")
        await client.get("1")
    assert [each["authorization"] for each in service.metadata] == ["Bearer old", "Bearer new"]


async def test_the_trace_that_the_caller_is_in_goes_with_each_call(client: EmailClient, service: ServiceDouble) -> None:
    await client.get("1")
    inside = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    with trace.use_span(trace.NonRecordingSpan(inside)):
        await client.get("1")
    assert "traceparent" not in service.metadata[0]
    assert service.metadata[1]["traceparent"] == f"00-{1:032x}-{2:016x}-01"


async def test_of_many_only_those_that_may_be_repeated_are(client: EmailClient, service: ServiceDouble) -> None:
    bad = status(grpc.StatusCode.INVALID_ARGUMENT)
    service.answers = [None, None, later(FULL), bad]  # of the call, then of each email
    outcomes = await client.send_many(OutgoingEmail(**{**WELCOME, "idempotency_key": key}) for key in "abc")
    assert [asked for asked in service.asked if isinstance(asked, str)] == ["a", "b", "c", "b"]
    assert isinstance(outcomes[0], SendResult)
    assert isinstance(outcomes[1], SendResult)
    assert outcomes[1].email_id == "id of b"
    assert isinstance(outcomes[2], InvalidRequestError)


async def test_a_batch_that_fails_as_a_whole_is_the_error_of_each(client: EmailClient, service: ServiceDouble) -> None:
    service.answers = [status(grpc.StatusCode.PERMISSION_DENIED)]
    outcomes = await client.send_many([OutgoingEmail(**WELCOME), OutgoingEmail(**WELCOME)])
    assert [type(each).__name__ for each in outcomes] == ["PermissionDeniedError"] * 2


async def test_a_watch_goes_on_after_its_last_event_when_the_connection_breaks(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.streams = [["first", "second", status(AWAY)], [], [later(AWAY)], ["third"]]
    reasons = []
    async for event in client.watch("1"):
        reasons.append(event.reason)
        if event.reason == "third":
            break
    assert reasons == ["first", "second", "third"]
    assert [asked.resume_token for asked in service.asked] == ["", "after second", "after second", "after second"]
    assert [list(asked.email_ids) for asked in service.asked] == [["1"]] * 4


async def test_a_watch_keeps_a_token_that_came_without_an_event(client: EmailClient, service: ServiceDouble) -> None:
    service.streams = [["token only"], ["first"]]
    async for event in client.watch():
        assert event.resume_token == "after first"
        break
    assert service.asked[1].resume_token == "token only"


async def test_a_watch_that_breaks_before_its_first_event_goes_on_from_where_it_began(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.streams = [["begin: start", status(AWAY)], ["begin: start", status(AWAY)], ["first"]]
    async for _ in client.watch():
        break
    assert [asked.resume_token for asked in service.asked] == ["", "start", "start"]


async def test_a_watch_ends_with_the_error_that_no_new_connection_mends(
    client: EmailClient, service: ServiceDouble
) -> None:
    service.streams = [[status(grpc.StatusCode.OUT_OF_RANGE)]]
    with pytest.raises(ResumeTokenExpiredError):
        async for _ in client.watch(resume_token="old"):
            pass
    assert service.asked[0].resume_token == "old"


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await EmailClient("localhost:1").get("1")


@pytest.mark.parametrize("arguments", [{"target": ""}, {"target": "localhost:1", "timeout": 0}])
@pytest.mark.parametrize("kind", [EmailClient, SyncEmailClient])
def test_bad_arguments_are_refused_when_the_client_is_made(kind: Any, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"target|timeout"):
        kind(**arguments)
