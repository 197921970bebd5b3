"""What every call passes through: errors become statuses, and a server that is stopping or full refuses."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from sred_email_core.access.caller import current_grant
from sred_email_core.call_requests import PATIENCE, only_request, parser_of, readable
from sred_email_core.call_tracing import CallTracing
from sred_email_core.call_wait import CallWait
from sred_email_core.error_status import status_of
from sred_email_core.errors import (
    EmailDispatchError,
    OverloadedError,
    StoppingServerError,
    UnauthenticatedError,
)
from sred_email_core.lifecycle import StopEvent, wait_for
from sred_email_core.metrics import CallMetrics
from sred_email_core.tracing import Tracing

log = structlog.get_logger(__name__)

_LAST_ANSWERS_S = 0.1
_STALLED = timedelta(seconds=1)
"""At the stop, for callers of streams to take what is on its way to them: who does not read must not hold it up."""
_END: Any = object()


class CallGuard:
    """Ends a call that raised an error of the taxonomy with its status; other exceptions are bugs, and surface.

    It also knows how many calls are in progress, and refuses new ones once there are too many, or once it drains.
    Handlers are wrapped when they are registered: an interceptor would do the same, for each call anew, which costs a
    small call as much as the rest of it.
    """

    def __init__(  # noqa: PLR0913 - the server names each
        self,
        stop: StopEvent | None = None,
        *,
        most_calls: int,
        wait: CallWait | None = None,
        calls: CallMetrics | None = None,
        patience: timedelta = PATIENCE,
        tracing: Tracing | None = None,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            stop: New calls are refused from then on; None: once it drains.
            most_calls: In progress at once; more are refused.
            wait: Of calls that are not seen yet; while it is too long new ones are refused. None: it is not known.
            calls: Where to count; None: nowhere.
            patience: With a request that is on its way.
            tracing: Makes spans of calls; None: nobody does.
            require: Raises an error of the taxonomy while calls can't be served at all.
        """
        self._wait = wait
        self._spans = CallTracing(tracing or Tracing(), _code_of)
        self._calls = calls or CallMetrics(CollectorRegistry())
        self._stop = stop or StopEvent()
        self._most_calls = most_calls
        self._in_progress = 0
        self._reading = 0
        self._patience = patience
        self._require = require
        self._calls.in_progress.set_function(lambda: self.under_way)
        self._telling = 0
        self._draining = False
        self._refusal: Any = grpc.stream_unary_rpc_method_handler(self._refuse)
        self._idle = asyncio.Event()
        self._idle.set()
        self._silent = asyncio.Event()
        self._silent.set()

    async def drain(self, grace: timedelta) -> None:
        """Refuse new calls, and wait until none is in progress; at most ``grace``, since the stop if there was one.

        Calls that are asked once and answered with a stream end by themselves at the stop, with UNAVAILABLE; one whose
        caller does not read its answers is not waited for.
        """
        self._draining = True
        await wait_for(self._idle, self._stop.left_of(grace).total_seconds())
        await wait_for(self._silent, min(_STALLED, self._stop.left_of(grace)).total_seconds())
        await asyncio.sleep(_LAST_ANSWERS_S)  # what was answered is on its way

    def wrap(self, method: str, handler: Any) -> Any:  # noqa: ANN401 - a handler of any RPC
        """The handler of one RPC, guarded."""
        if handler.unary_unary is not None:  # as a stream of one, so that it is seen before its request is there
            return grpc.stream_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary), parser_of(handler), handler.response_serializer
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, self._spans.stream(method, handler.stream_stream)),
                parser_of(handler),
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._telling_stream(method, self._ending_at_stop(handler.unary_stream)),
                parser_of(handler),
                handler.response_serializer,
            )
        return handler

    def _unary(self, method: str, unguarded: Callable[[Any, Any], Awaitable[Message]]) -> Callable[..., Any]:
        behaviour: Callable[[Any, Any], Awaitable[Message]] = self._spans.unary(method, unguarded)
        name, seconds = method.rpartition("/")[2], self._calls.seconds
        answered = seconds.labels(name, grpc.StatusCode.OK.name)

        async def call(_: object, context: Any) -> Message | None:  # noqa: ANN401 - any RPC's
            began_s, ended, reading = time.perf_counter(), None, True
            self._reading += 1
            try:
                self._check()
                request = await only_request(context, method, self._patience)
                began_s = time.perf_counter()
                reading = self._begin_working()
                self._check()
                response = await behaviour(request, context)
                ended = answered
            except Exception as e:  # noqa: BLE001 - told as what it is, or raised again
                ended = seconds.labels(name, _code_of(e))
                await _end_with(e, method, context)
            else:
                return response
            finally:
                (ended or seconds.labels(name, grpc.StatusCode.CANCELLED.name)).observe(time.perf_counter() - began_s)
                if reading:
                    self._reading -= 1
                else:
                    self._end()
            return None

        return call

    def _stream(self, method: str, behaviour: Callable[[Any, Any], AsyncIterator[Message]]) -> Callable[..., Any]:
        """Guard what is asked by a stream and answers with one."""

        async def call(asked: Any, context: Any) -> AsyncIterator[Message]:  # noqa: ANN401 - any RPC's
            self._begin()
            try:
                self._check()
                async for response in behaviour(self._requests(asked, method), context):
                    yield response
            except Exception as e:  # noqa: BLE001 - told as what it is, or raised again
                await _end_with(e, method, context)
            finally:
                self._end()

        return call

    def _telling_stream(
        self, method: str, behaviour: Callable[[Any, Any], AsyncIterator[Message]]
    ) -> Callable[..., Any]:
        """Guard what is asked once and answers with a stream."""

        async def call(_: object, context: Any) -> AsyncIterator[Message]:  # noqa: ANN401 - any RPC's
            reading = True
            self._reading += 1
            try:
                self._check()
                request = await only_request(context, method, self._patience)
                reading = self._begin_working(telling=True)
                self._check()
                async for response in behaviour(request, context):
                    yield response
            except Exception as e:  # noqa: BLE001 - told as what it is, or raised again
                await _end_with(e, method, context)
            finally:
                if reading:
                    self._reading -= 1
                else:
                    self._end(telling=True)

        return call

    async def _requests(self, requests: AsyncIterator[Any], method: str) -> AsyncIterator[Message]:
        async with aclosing(self._until_stop(requests)) as until_stop:
            async for request in until_stop:
                yield readable(request, method)

    def _ending_at_stop(
        self, behaviour: Callable[[Any, Any], AsyncGenerator[Message]]
    ) -> Callable[[Any, Any], AsyncIterator[Message]]:
        async def answers(request: Any, context: Any) -> AsyncIterator[Message]:  # noqa: ANN401 - any RPC's
            async with aclosing(behaviour(request, context)) as all_, aclosing(self._until_stop(all_)) as until_stop:
                async for response in until_stop:
                    yield response

        return answers

    async def _until_stop(self, items: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        """What a stream brings, in either direction, until the process is asked to stop, or the token is taken back.

        Raises:
            StoppingServerError: It was.
            UnauthenticatedError: It was taken back.
        """
        grant = current_grant()
        ends = [asyncio.ensure_future(self._stop.wait())]
        if grant is not None:
            ends.append(asyncio.ensure_future(grant.revoked.wait()))
        following: asyncio.Future[Any] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(items, _END))
                await asyncio.wait({following, *ends}, return_when=asyncio.FIRST_COMPLETED)
                if grant is not None and grant.revoked.is_set():
                    raise UnauthenticatedError(
                        f"the token of {grant.caller} was taken back or changed", "TOKEN_UNKNOWN"
                    )
                if not following.done():
                    raise StoppingServerError("this server is stopping: go on with the stream on another")
                item = following.result()
                if item is _END:
                    return
                yield item
        finally:
            for end in ends:
                end.cancel()
            if following is not None and following.cancel():
                await asyncio.wait([following])  # it may hold what is to be closed next

    def choose(self, handler: Any) -> Any:  # noqa: ANN401 - a handler of any RPC
        """The handler, or one that refuses, if it would refuse anyhow: without having read the request."""
        full = self.under_way >= self._most_calls or (self._wait is not None and self._wait.is_long)
        return self._refusal if full else handler

    @property
    def under_way(self) -> int:
        """Calls and streams in progress, those among them whose request is still being read."""
        return self._in_progress + self._reading

    async def _refuse(self, _: object, context: Any) -> None:  # noqa: ANN401 - any RPC's
        self._calls.refused.inc()
        await context.abort_with_status(_too_many_status())

    def _begin(self, *, telling: bool = False) -> None:
        self._in_progress += 1
        if telling:
            self._telling += 1
            self._silent.clear()
        else:
            self._idle.clear()

    def _begin_working(self, *, telling: bool = False) -> bool:
        """The request is there; whether it is still being read."""
        self._reading -= 1
        self._begin(telling=telling)
        return False

    def _end(self, *, telling: bool = False) -> None:
        self._in_progress -= 1
        if telling:
            self._telling -= 1
            if self._telling == 0:
                self._silent.set()
        elif self._in_progress == self._telling:
            self._idle.set()

    def _check(self) -> None:
        if self._draining or self._stop.is_set():
            raise StoppingServerError("this server is stopping: repeat the call on another")
        self._require()
        if self.under_way > self._most_calls:  # it passed while others that had passed were still being read
            raise _too_many()


def _too_many() -> OverloadedError:
    return OverloadedError(
        "more calls come than are dealt with here: repeat the call", retry_after=timedelta(seconds=1)
    )


@functools.cache
def _too_many_status() -> Any:  # noqa: ANN401 - gRPC's
    """Made once: refusing has to be cheaper than what is refused."""
    return rpc_status.to_status(status_of(_too_many()))


_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def _code_of(error: BaseException) -> str:
    """The status that a call ends with when this was raised."""
    if not isinstance(error, Exception):
        return grpc.StatusCode.CANCELLED.name
    if isinstance(error, EmailDispatchError):
        return _CODES[status_of(error).code]
    unserved = isinstance(error, NotImplementedError)
    return (grpc.StatusCode.UNIMPLEMENTED if unserved else grpc.StatusCode.UNKNOWN).name


async def _end_with(error: Exception, method: str, context: Any) -> None:  # noqa: ANN401 - any RPC's
    """End a call with what was raised."""
    if isinstance(error, EmailDispatchError):
        await context.abort_with_status(rpc_status.to_status(status_of(error)))
    elif isinstance(error, NotImplementedError):  # by the generated servicer; gRPC would log it as a bug of ours
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not available in this version")
    elif not isinstance(error, grpc.aio.AbortError):
        log.error("call_failed", method=method, exc_info=error)
    raise error
