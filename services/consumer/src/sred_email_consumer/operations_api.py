"""The gRPC face of the consumer: translate, delegate, translate back."""

from typing import Protocol

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.delivery_control import DeliveryControl
from sred_email_consumer.erasure import RecipientErasure
from sred_email_consumer.letter_handling import LetterHandling
from sred_email_consumer.letters_api import (
    dead_letter,
    error_group,
    letter_group,
    reason_name,
    selection,
    selection_name,
)
from sred_email_consumer.operations import EmailOperations
from sred_email_consumer.records_api import RecordCalls
from sred_email_consumer.stats_api import queue_stats
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.timeline import EmailTimeline
from sred_email_core.deeds import deed_of
from sred_email_core.email_send_log.audit import AuditLog
from sred_email_core.email_send_log.events import TimelineRecord
from sred_email_core.email_send_log.records import LetterSelection
from sred_email_core.errors import FieldViolation, InvalidRequestError
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.stats import DispatchStatus


class OperatorParts(Protocol):
    """What the calls delegate to."""

    @property
    def operations(self) -> EmailOperations: ...  # noqa: D102 - each is what its type says
    @property
    def control(self) -> DeliveryControl: ...  # noqa: D102
    @property
    def suppressions(self) -> SuppressionList: ...  # noqa: D102
    @property
    def timeline(self) -> EmailTimeline: ...  # noqa: D102
    @property
    def handling(self) -> LetterHandling: ...  # noqa: D102
    @property
    def erasure(self) -> RecipientErasure: ...  # noqa: D102
    @property
    def audit(self) -> AuditLog: ...  # noqa: D102


class EmailOperationsServicer(RecordCalls):
    """Serves EmailOperationsService; what is not here stands in the classes that it builds on."""

    def __init__(self, parts: OperatorParts, *, requests_per_second: float) -> None:
        super().__init__(parts.audit, parts.erasure, parts.handling, parts.suppressions)
        self._operations = parts.operations
        self._control = parts.control
        self._timeline = parts.timeline
        self._requests_per_second = requests_per_second

    async def GetQueueStats(  # noqa: N802 - named by the contract
        self,
        request: pb.GetQueueStatsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.GetQueueStatsRequest, pb.GetQueueStatsResponse],  # noqa: ARG002
    ) -> pb.GetQueueStatsResponse:
        """The queue at a glance."""
        seen = await self._operations.stats()
        return queue_stats(seen, _in_force(self._requests_per_second, seen.queue.dispatch))

    async def ListDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.ListDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse],  # noqa: ARG002
    ) -> pb.ListDeadLettersResponse:
        """Dead letters by pages."""
        page, token = await self._operations.page(
            size=request.page_size,
            token=request.page_token,
            selection=LetterSelection(
                reason_name(request.reason),
                error_group(request.error_group) if request.HasField("error_group") else None,
            ),
            kind=_kind(request.kind),
        )
        return pb.ListDeadLettersResponse(dead_letters=[dead_letter(letter) for letter in page], next_page_token=token)

    async def ListDeadLetterGroups(  # noqa: N802 - named by the contract
        self,
        request: pb.ListDeadLetterGroupsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.ListDeadLetterGroupsRequest, pb.ListDeadLetterGroupsResponse],  # noqa: ARG002
    ) -> pb.ListDeadLetterGroupsResponse:
        """Dead letters by what they have in common."""
        groups, more = await self._operations.groups()
        return pb.ListDeadLetterGroupsResponse(groups=map(letter_group, groups), more=more)

    async def ReplayDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.ReplayDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.ReplayDeadLettersRequest, pb.ReplayDeadLettersResponse],
    ) -> pb.ReplayDeadLettersResponse:
        """Send dead letters again."""
        result = await self._operations.replay(
            selection(request),
            include_outcome_unknown=request.include_outcome_unknown,
            limit=request.limit,
            deed=deed_of(
                context,
                "REPLAY",
                selection_name(request),
                "include_outcome_unknown" if request.include_outcome_unknown else "",
            ),
        )
        return pb.ReplayDeadLettersResponse(
            replayed=result.replayed, skipped=result.skipped, remaining=result.remaining
        )

    async def GetEmailTimeline(  # noqa: N802 - named by the contract
        self,
        request: pb.GetEmailTimelineRequest,
        context: grpc.aio.ServicerContext[pb.GetEmailTimelineRequest, pb.GetEmailTimelineResponse],  # noqa: ARG002
    ) -> pb.GetEmailTimelineResponse:
        """All that happened to one email."""
        return pb.GetEmailTimelineResponse(entries=map(_entry, await self._timeline.of(request.email_id)))

    async def PauseDelivery(  # noqa: N802 - named by the contract
        self,
        request: pb.PauseDeliveryRequest,
        context: grpc.aio.ServicerContext[pb.PauseDeliveryRequest, pb.PauseDeliveryResponse],
    ) -> pb.PauseDeliveryResponse:
        """Stop sending."""
        lane = _lane(request.priority)
        await self._control.pause(lane, request.reason, deed_of(context, "PAUSE", _lane_name(lane), request.reason))
        return pb.PauseDeliveryResponse()

    async def ResumeDelivery(  # noqa: N802 - named by the contract
        self,
        request: pb.ResumeDeliveryRequest,
        context: grpc.aio.ServicerContext[pb.ResumeDeliveryRequest, pb.ResumeDeliveryResponse],
    ) -> pb.ResumeDeliveryResponse:
        """Go on sending."""
        lane = _lane(request.priority)
        await self._control.resume(lane, deed_of(context, "RESUME", _lane_name(lane)))
        return pb.ResumeDeliveryResponse()


def _in_force(configured: float, dispatch: DispatchStatus) -> float:
    """The limit in force; 0: none."""
    limit = configured if dispatch.provider_limit is None else min(configured, dispatch.provider_limit)
    return limit * dispatch.part_of_limit


def _lane(priority: int) -> Lane | None:
    """None: all lanes."""
    if priority not in email_pb2.Priority.values():
        raise InvalidRequestError([FieldViolation("priority", "is no priority that this version knows")])
    return Lane(priority) if priority else None


def _lane_name(lane: Lane | None) -> str:
    return "all lanes" if lane is None else lane.name


def _kind(value: int) -> str | None:
    if value not in email_pb2.EmailKind.values():
        raise InvalidRequestError([FieldViolation("kind", "is no kind that this version knows")])
    name = email_pb2.EmailKind.Name(value).removeprefix("EMAIL_KIND_")  # type: ignore[arg-type]
    return None if name == "UNSPECIFIED" else name


def _entry(happened: TimelineRecord) -> pb.TimelineEntry:
    at = Timestamp()
    at.FromDatetime(happened.at)
    return pb.TimelineEntry(
        at=at,
        what=happened.what,
        detail=happened.reason or happened.provider_message_id or "",
        attempt=happened.attempt,
        consumer=happened.consumer or "",
    )
