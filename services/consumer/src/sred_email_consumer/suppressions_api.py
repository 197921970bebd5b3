"""The calls about suppressions: translate, delegate, translate back."""

from datetime import UTC, datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2, operations_service_pb2_grpc
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_core.deeds import deed_of
from sred_email_core.email_send_log.audit import anonymised
from sred_email_core.email_send_log.suppressions import SuppressionRecord
from sred_email_core.errors import FieldViolation, InvalidRequestError


class SuppressionCalls(operations_service_pb2_grpc.EmailOperationsServiceServicer):
    """Serves those calls of EmailOperationsService that are about suppressions."""

    def __init__(self, suppressions: SuppressionList) -> None:
        self._suppressions = suppressions

    async def ListSuppressions(  # noqa: N802 - named by the contract
        self,
        request: pb.ListSuppressionsRequest,
        context: grpc.aio.ServicerContext[pb.ListSuppressionsRequest, pb.ListSuppressionsResponse],  # noqa: ARG002
    ) -> pb.ListSuppressionsResponse:
        """Addresses that get no email, by pages."""
        page, token = await self._suppressions.page(
            address=request.address, size=request.page_size, token=request.page_token
        )
        return pb.ListSuppressionsResponse(suppressions=map(_suppression, page), next_page_token=token)

    async def AddSuppression(  # noqa: N802 - named by the contract
        self,
        request: pb.AddSuppressionRequest,
        context: grpc.aio.ServicerContext[pb.AddSuppressionRequest, pb.AddSuppressionResponse],
    ) -> pb.AddSuppressionResponse:
        """Suppress an address."""
        expires_at = time_of(request.expires_at, "expires_at") if request.HasField("expires_at") else None
        reason = _reason(request.reason)
        kept = await self._suppressions.add(
            request.address,
            reason,
            expires_at,
            lambda address: deed_of(context, "ADD_SUPPRESSION", anonymised(address), reason),
        )
        return pb.AddSuppressionResponse(suppression=_suppression(kept))

    async def RemoveSuppression(  # noqa: N802 - named by the contract
        self,
        request: pb.RemoveSuppressionRequest,
        context: grpc.aio.ServicerContext[pb.RemoveSuppressionRequest, pb.RemoveSuppressionResponse],
    ) -> pb.RemoveSuppressionResponse:
        """Let an address get email again."""
        await self._suppressions.remove(
            request.address, lambda address: deed_of(context, "REMOVE_SUPPRESSION", anonymised(address))
        )
        return pb.RemoveSuppressionResponse()


def _reason(value: int) -> str:
    if value not in email_pb2.SuppressionReason.values():
        raise InvalidRequestError([FieldViolation("reason", "is no reason that this version knows")])
    name = email_pb2.SuppressionReason.Name(value)  # type: ignore[arg-type]
    return name.removeprefix("SUPPRESSION_REASON_") if value else "MANUAL"


def time_of(stamp: Timestamp, field: str) -> datetime:
    """Read a time.

    Raises:
        InvalidRequestError: It is none.
    """
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as e:
        raise InvalidRequestError([FieldViolation(field, "is no time between the years 1 and 9999")]) from e


def _suppression(record: SuppressionRecord) -> email_pb2.Suppression:
    suppression = email_pb2.Suppression(
        address=record.address, reason=email_pb2.SuppressionReason.Value(f"SUPPRESSION_REASON_{record.reason}")
    )
    suppression.created_at.FromDatetime(record.created_at)
    if record.expires_at is not None:
        suppression.expires_at.FromDatetime(record.expires_at)
    return suppression
