"""What both services measure alike: calls by status, the lag of the event loop."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sred.email.v1 import dispatch_service_pb2 as pb
from sred_email_core.call_guard import CallGuard
from sred_email_core.errors import EmailNotFoundError
from sred_email_core.metrics import CallMetrics, LoopLag


class Context:
    """Brings a request, and ends a call as grpc.aio does."""

    async def read(self) -> pb.GetEmailRequest:
        return pb.GetEmailRequest()

    async def abort_with_status(self, _: object) -> None:
        raise grpc.aio.AbortError

    async def abort(self, *_: object) -> None:
        raise grpc.aio.AbortError


async def answer(*_: object) -> pb.GetEmailResponse:
    return pb.GetEmailResponse()


async def not_found(*_: object) -> None:
    raise EmailNotFoundError("no such email")


async def bug(*_: object) -> None:
    raise ZeroDivisionError


async def unserved(*_: object) -> None:
    raise NotImplementedError


async def hung_up(*_: object) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [(answer, "OK"), (not_found, "NOT_FOUND"), (bug, "UNKNOWN"), (unserved, "UNIMPLEMENTED"), (hung_up, "CANCELLED")],
)
async def test_a_call_is_counted_under_the_status_that_it_ended_with(behaviour: Callable[..., Any], code: str) -> None:
    registry = CollectorRegistry()
    guard = CallGuard(most_calls=1, calls=CallMetrics(registry))
    handler = guard.wrap("/sred.email.v1.Service/GetEmail", grpc.unary_unary_rpc_method_handler(behaviour))
    raised = (grpc.aio.AbortError, EmailNotFoundError, ZeroDivisionError, NotImplementedError, asyncio.CancelledError)
    with contextlib.suppress(*raised):
        await handler.stream_unary(None, Context())
    labels = {"method": "GetEmail", "code": code}
    assert registry.get_sample_value("sred_email_call_seconds_count", labels) == 1
    assert registry.get_sample_value("sred_email_calls_in_progress") == 0


async def test_the_lag_is_measured_until_the_stop() -> None:
    registry, stop = CollectorRegistry(), asyncio.Event()
    running = asyncio.create_task(LoopLag(registry).run(stop))
    while not registry.get_sample_value("sred_email_event_loop_lag_seconds_count"):
        await asyncio.sleep(0.01)
    stop.set()
    await running
    assert (registry.get_sample_value("sred_email_event_loop_lag_seconds_sum") or 0) < 5
