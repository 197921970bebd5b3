"""The two services as the console calls them: what reads, and apart from it what changes something."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sred.email.v1 import dispatch_service_pb2 as dispatch_pb
from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import Priority
from sred_email_operator import output
from sred_email_operator.connection import explain, operator_metadata

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub
    from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceAsyncStub

log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
"""For one call."""
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class CallFailedError(Exception):
    """A call to a service failed.

    Attributes:
        service: ``ingress`` or ``consumer``.
        code: How it ended.
        lines: Why, in words.
    """

    def __init__(self, service: str, code: grpc.StatusCode, lines: list[str]) -> None:
        super().__init__(f"{service}: {lines[0]}")
        self.service = service
        self.code = code
        self.lines = lines

    @property
    def away(self) -> bool:
        """Whether the same call may succeed later."""
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Peer:
    """A service: what people call it, and its ``host:port``."""

    name: str
    address: str


class Call(Generic[_Request, _Response]):
    """One call of the contract."""

    def __init__(self, peer: Peer, method: Callable[..., Awaitable[_Response]]) -> None:
        self._peer = peer
        self._method = method

    async def __call__(self, request: _Request, *, operator: str = "", timeout_s: float = PATIENCE_S) -> _Response:
        """Make it.

        Args:
            request: What is asked.
            operator: Who asks, for the audit.
            timeout_s: How long it may take.

        Raises:
            CallFailedError: It failed.
        """
        try:
            return await self._method(request, timeout=timeout_s, metadata=operator_metadata(operator))
        except grpc.aio.AioRpcError as error:
            raise CallFailedError(self._peer.name, error.code(), explain(error, self._peer.address)) from error


class Change(Call[_Request, _Response]):
    """A call that changes something: the log has a line for each, with who made it."""

    async def __call__(self, request: _Request, *, operator: str = "", timeout_s: float = PATIENCE_S) -> _Response:
        """Make it; see ``Call``."""
        facts = {"call": type(request).DESCRIPTOR.name.removesuffix("Request"), "operator": operator, **_told(request)}
        try:
            answer = await super().__call__(request, operator=operator, timeout_s=timeout_s)
        except CallFailedError as error:
            log.warning("change_failed", **facts, code=error.code.name)  # it may be done: an answer can get lost
            raise
        log.info("changed", **facts, **_counts(answer))
        return answer


def _told(request: Message) -> dict[str, str]:
    """What a line says of a request: never whom it concerns, nor what people wrote."""
    if isinstance(request, dispatch_pb.CancelEmailRequest):
        return {"email_id": request.email_id}
    if isinstance(request, pb.PauseDeliveryRequest | pb.ResumeDeliveryRequest):
        return {"lane": output.enum_name(Priority.DESCRIPTOR, request.priority) if request.priority else "all"}
    return {}


def _counts(answer: Message) -> dict[str, int]:
    whole = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    return {each.name: getattr(answer, each.name) for each in answer.DESCRIPTOR.fields if each.cpp_type in whole}


@dataclass(frozen=True, slots=True)
class Reads:
    """What changes nothing."""

    get_email: Call[dispatch_pb.GetEmailRequest, dispatch_pb.GetEmailResponse]
    list_emails: Call[dispatch_pb.ListEmailsRequest, dispatch_pb.ListEmailsResponse]
    stats: Call[pb.GetQueueStatsRequest, pb.GetQueueStatsResponse]
    timeline: Call[pb.GetEmailTimelineRequest, pb.GetEmailTimelineResponse]
    list_letters: Call[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse]
    list_groups: Call[pb.ListDeadLetterGroupsRequest, pb.ListDeadLetterGroupsResponse]
    get_letter: Call[pb.GetDeadLetterRequest, pb.GetDeadLetterResponse]
    list_suppressions: Call[pb.ListSuppressionsRequest, pb.ListSuppressionsResponse]
    list_audit: Call[pb.ListAuditEntriesRequest, pb.ListAuditEntriesResponse]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changes something: a console that is read-only has none of it."""

    cancel: Change[dispatch_pb.CancelEmailRequest, dispatch_pb.CancelEmailResponse]
    pause: Change[pb.PauseDeliveryRequest, pb.PauseDeliveryResponse]
    resume: Change[pb.ResumeDeliveryRequest, pb.ResumeDeliveryResponse]
    replay: Change[pb.ReplayDeadLettersRequest, pb.ReplayDeadLettersResponse]
    resolve: Change[pb.ResolveDeadLettersRequest, pb.ResolveDeadLettersResponse]
    discard: Change[pb.DiscardDeadLettersRequest, pb.DiscardDeadLettersResponse]
    suppress: Change[pb.AddSuppressionRequest, pb.AddSuppressionResponse]
    unsuppress: Change[pb.RemoveSuppressionRequest, pb.RemoveSuppressionResponse]
    erase: Change[pb.EraseRecipientRequest, pb.EraseRecipientResponse]


def reads_of(
    dispatch: "EmailDispatchServiceAsyncStub",
    operations: "EmailOperationsServiceAsyncStub",
    ingress: Peer,
    consumer: Peer,
) -> Reads:
    """The calls that change nothing."""
    return Reads(
        get_email=Call(ingress, dispatch.GetEmail),
        list_emails=Call(ingress, dispatch.ListEmails),
        stats=Call(consumer, operations.GetQueueStats),
        timeline=Call(consumer, operations.GetEmailTimeline),
        list_letters=Call(consumer, operations.ListDeadLetters),
        list_groups=Call(consumer, operations.ListDeadLetterGroups),
        get_letter=Call(consumer, operations.GetDeadLetter),
        list_suppressions=Call(consumer, operations.ListSuppressions),
        list_audit=Call(consumer, operations.ListAuditEntries),
    )


def changes_of(
    dispatch: "EmailDispatchServiceAsyncStub",
    operations: "EmailOperationsServiceAsyncStub",
    ingress: Peer,
    consumer: Peer,
) -> Changes:
    """The calls that change something."""
    return Changes(
        cancel=Change(ingress, dispatch.CancelEmail),
        pause=Change(consumer, operations.PauseDelivery),
        resume=Change(consumer, operations.ResumeDelivery),
        replay=Change(consumer, operations.ReplayDeadLetters),
        resolve=Change(consumer, operations.ResolveDeadLetters),
        discard=Change(consumer, operations.DiscardDeadLetters),
        suppress=Change(consumer, operations.AddSuppression),
        unsuppress=Change(consumer, operations.RemoveSuppression),
        erase=Change(consumer, operations.EraseRecipient),
    )
