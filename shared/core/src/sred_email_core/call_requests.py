"""How requests are read, before anything is done about them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError, Message

from sred_email_core.errors import DeadlinePassedError, FieldViolation, InvalidRequestError

PATIENCE = timedelta(seconds=60)
"""With a request that is on its way: 40 MB at 6 Mbit/s."""


class Unparseable:
    """Stands for a request that could not be read."""


def parser_of(handler: Any) -> Callable[[bytes], Message | Unparseable]:  # noqa: ANN401 - a handler of any RPC
    """What reads the requests of an RPC."""

    def parse(data: bytes) -> Message | Unparseable:
        try:
            return cast("Message", handler.request_deserializer(data))
        except DecodeError:
            return Unparseable()

    return parse


def readable(request: Message | Unparseable, method: str) -> Message:
    """The request.

    Raises:
        InvalidRequestError: It could not be read.
    """
    if isinstance(request, Unparseable):
        violation = FieldViolation("request", f"is no message that {method} takes, or holds text that is no UTF-8")
        raise InvalidRequestError([violation])
    return request


async def only_request(context: Any, method: str, patience: timedelta) -> Message:  # noqa: ANN401 - any RPC's
    """Wait for the one request of a call.

    Raises:
        DeadlinePassedError: It did not come in time.
        InvalidRequestError: It could not be read, or the caller sent none.
    """
    try:
        async with asyncio.timeout(patience.total_seconds()):
            request = await context.read()
    except TimeoutError as e:
        raise DeadlinePassedError(
            f"the request did not arrive within {patience.total_seconds():g} s: send less at once, "
            "or over a faster network"
        ) from e
    if request is grpc.aio.EOF:
        raise InvalidRequestError([FieldViolation("request", f"is missing: {method} takes one")])
    return readable(request, method)
