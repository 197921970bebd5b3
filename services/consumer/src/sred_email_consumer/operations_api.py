"""The gRPC face of the consumer: translate, delegate, translate back."""

from datetime import timedelta

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.delivery_control import DeliveryControl
from sred_email_consumer.operations import EmailOperations, Selection
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.suppressions_api import SuppressionCalls
from sred_email_consumer.timeline import EmailTimeline
from sred_email_core.email_send_log.events import TimelineRecord
from sred_email_core.email_send_log.records import DeadLetterRecord
from sred_email_core.errors import FieldViolation, InvalidRequestError
from sred_email_core.queue.keys import Lane


class EmailOperationsServicer(SuppressionCalls):
    """Serves EmailOperationsService; RPCs that are not here answer UNIMPLEMENTED."""

    def __init__(
        self,
        operations: EmailOperations,
        control: DeliveryControl,
        suppressions: SuppressionList,
        timeline: EmailTimeline,
        *,
        requests_per_second: float,
    ) -> None:
        super().__init__(suppressions)
        self._operations = operations
        self._control = control
        self._timeline = timeline
        self._requests_per_second = requests_per_second

    async def GetQueueStats(  # noqa: N802 - named by the contract
        self,
        request: pb.GetQueueStatsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.GetQueueStatsRequest, pb.GetQueueStatsResponse],  # noqa: ARG002
    ) -> pb.GetQueueStatsResponse:
        """The queue at a glance."""
        stats, dead_letters = await self._operations.stats()
        return pb.GetQueueStatsResponse(
            lanes=[
                pb.LaneStats(
                    priority=email_pb2.Priority.Value(f"PRIORITY_{lane.lane.name}"),
                    waiting=lane.waiting,
                    in_flight=lane.in_flight,
                    oldest_waiting=_duration(lane.oldest_waiting),
                    paused=lane.lane in stats.dispatch.paused,
                )
                for lane in stats.lanes
            ],
            retry_scheduled=stats.retry_scheduled,
            retry_due=stats.retry_due,
            dead_letters=dead_letters,
            consumers=[
                pb.ConsumerStats(name=c.name, in_flight=c.in_flight, idle=_duration(c.idle)) for c in stats.consumers
            ],
            dispatch_state=_dispatch_state(stats.dispatch.state),
            dispatch_reason=stats.dispatch.reason,
            requests_per_second=_lower(self._requests_per_second, stats.dispatch.provider_limit),
        )

    async def ListDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.ListDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse],  # noqa: ARG002
    ) -> pb.ListDeadLettersResponse:
        """Dead letters by pages."""
        page, token = await self._operations.page(
            size=request.page_size,
            token=request.page_token,
            reason=_reason(request.reason, "reason"),
            kind=_kind(request.kind),
        )
        return pb.ListDeadLettersResponse(dead_letters=[_dead_letter(letter) for letter in page], next_page_token=token)

    async def ReplayDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.ReplayDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.ReplayDeadLettersRequest, pb.ReplayDeadLettersResponse],  # noqa: ARG002
    ) -> pb.ReplayDeadLettersResponse:
        """Send dead letters again."""
        result = await self._operations.replay(
            _selection(request),
            include_outcome_unknown=request.include_outcome_unknown,
            limit=request.limit,
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
        context: grpc.aio.ServicerContext[pb.PauseDeliveryRequest, pb.PauseDeliveryResponse],  # noqa: ARG002
    ) -> pb.PauseDeliveryResponse:
        """Stop sending."""
        await self._control.pause(_lane(request.priority), request.reason)
        return pb.PauseDeliveryResponse()

    async def ResumeDelivery(  # noqa: N802 - named by the contract
        self,
        request: pb.ResumeDeliveryRequest,
        context: grpc.aio.ServicerContext[pb.ResumeDeliveryRequest, pb.ResumeDeliveryResponse],  # noqa: ARG002
    ) -> pb.ResumeDeliveryResponse:
        """Go on sending."""
        await self._control.resume(_lane(request.priority))
        return pb.ResumeDeliveryResponse()


def _lower(configured: float, provider_limit: float | None) -> float:
    """The limit in force; 0: none."""
    return configured if provider_limit is None or configured <= 0 else min(configured, provider_limit)


def _lane(priority: int) -> Lane | None:
    """None: all lanes."""
    if priority not in email_pb2.Priority.values():
        raise InvalidRequestError([FieldViolation("priority", "is no priority that this version knows")])
    return Lane(priority) if priority else None


def _dispatch_state(name: str) -> "pb.DispatchState.ValueType":
    """UNSPECIFIED: delivery is held for a reason that this version does not know."""
    full_name = f"DISPATCH_STATE_{name}"
    known = full_name in pb.DispatchState.keys()  # noqa: SIM118 - it is no dict
    return pb.DispatchState.Value(full_name) if known else pb.DISPATCH_STATE_UNSPECIFIED


def _selection(request: pb.ReplayDeadLettersRequest) -> Selection:
    which = request.WhichOneof("selection")
    if which == "ids" and request.ids.values:
        return Selection(ids=tuple(request.ids.values))
    if which == "all" and request.all:
        return Selection()
    if which == "reason" and (reason := _reason(request.reason, "reason")) is not None:
        return Selection(reason=reason)
    raise InvalidRequestError([FieldViolation("selection", "must be ids, all or a reason")])


def _reason(value: int, field: str) -> str | None:
    if value not in email_pb2.DeadLetterReason.values():
        raise InvalidRequestError([FieldViolation(field, "is no reason that this version knows")])
    name = email_pb2.DeadLetterReason.Name(value).removeprefix("DEAD_LETTER_REASON_")  # type: ignore[arg-type]
    return None if name == "UNSPECIFIED" else name


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


def _dead_letter(letter: DeadLetterRecord) -> email_pb2.DeadLetter:
    failed_at = Timestamp()
    failed_at.FromDatetime(letter.failed_at)
    repeatable_until = None
    if letter.repeatable_until is not None:
        repeatable_until = Timestamp()
        repeatable_until.FromDatetime(letter.repeatable_until)
    return email_pb2.DeadLetter(
        dead_letter_id=str(letter.id),
        email_id=str(letter.email_id or ""),
        reason=email_pb2.DeadLetterReason.Value(f"DEAD_LETTER_REASON_{letter.reason}"),
        error=letter.error,
        attempts=letter.attempts,
        failed_at=failed_at,
        kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{letter.kind or 'UNSPECIFIED'}"),
        to=letter.recipients or [],
        subject=letter.subject or "",
        may_have_been_accepted=letter.may_have_been_accepted,
        repeatable_until=repeatable_until,
    )


def _duration(delta: timedelta | None) -> Duration | None:
    if delta is None:
        return None
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
