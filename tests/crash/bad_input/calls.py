"""Calls as bytes, by a client with gRPC's own limits, so that what no client library would send can be sent too."""

from collections.abc import Iterable
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sred.email.v1 import dispatch_service_pb2, operations_service_pb2

DISPATCH = dispatch_service_pb2.DESCRIPTOR.services_by_name["EmailDispatchService"]
OPERATIONS = operations_service_pb2.DESCRIPTOR.services_by_name["EmailOperationsService"]
SERVED = {DISPATCH: dispatch_service_pb2, OPERATIONS: operations_service_pb2}
REFUSALS = frozenset({"INVALID_ARGUMENT", "ALREADY_EXISTS", "NOT_FOUND", "FAILED_PRECONDITION"})
"""What a request that is not right may be answered with: everything else says that something is wrong with us."""


class Caller:
    """A client of one service."""

    def __init__(self, address: str, service: Any) -> None:
        self._service = service
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])

    async def call(self, method: str, request: Message | bytes, *, allowed: Iterable[str] = REFUSALS) -> Any:
        """Call; the response, or the status that it was refused with.

        Raises:
            AssertionError: It ended in another way.
        """
        answered = getattr(SERVED[self._service], f"{method}Response")
        data = request if isinstance(request, bytes) else request.SerializeToString()
        rpc: Any = self._channel.unary_unary(
            f"/{self._service.full_name}/{method}", response_deserializer=answered.FromString
        )
        try:
            return await rpc(data, timeout=30)
        except grpc.aio.AioRpcError as e:
            refusal = e
        assert refusal.code().name in allowed, f"{refusal.code().name}: {refusal.details()}"
        status = rpc_status.from_call(cast("grpc.Call", refusal))
        assert status is not None, "a refusal without its details"
        return status

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()


def bad_fields(status: Status) -> list[str]:
    """The fields that a refusal names."""
    bad = BadRequest()
    return [v.field for detail in status.details if detail.Unpack(bad) for v in bad.field_violations]


def assert_tells_why(status: Status) -> None:
    """A refusal says what is wrong, and with which field."""
    assert status.message
    assert code_pb2.Code.Name(status.code) in REFUSALS
    if status.code == code_pb2.INVALID_ARGUMENT:
        assert bad_fields(status)
        assert all(bad_fields(status))
