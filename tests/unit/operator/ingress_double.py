"""An ingress in this process: a real gRPC server with a servicer that remembers what it was asked."""

import threading
from collections.abc import Iterator

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from sred.email.v1.dispatch_service_pb2 import (
    BatchSendEmailsRequest,
    BatchSendEmailsResponse,
    CancelEmailRequest,
    CancelEmailResponse,
    GetEmailRequest,
    GetEmailResponse,
    ListEmailsRequest,
    ListEmailsResponse,
    SendEmailRequest,
    SendEmailResponse,
    SendEmailResult,
    WatchEmailsRequest,
    WatchEmailsResponse,
)
from sred.email.v1.dispatch_service_pb2_grpc import (
    EmailDispatchServiceServicer,
)
from sred.email.v1.email_pb2 import DeliveryState, Email, EmailKind, EmailStatus, Priority
from sred.email.v1.operations_service_pb2 import (
    AddSuppressionResponse,
    DiscardDeadLettersResponse,
    EraseRecipientResponse,
    GetEmailTimelineRequest,
    GetEmailTimelineResponse,
    PauseDeliveryResponse,
    RemoveSuppressionResponse,
    ReplayDeadLettersResponse,
    ResolveDeadLettersResponse,
    ResumeDeliveryResponse,
    TimelineEntry,
)
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceServicer

EMAIL_ID = "019a9c2e-7d40-7000-8000-2f3b1c5d7e90"
NOON = Timestamp(seconds=1_750_000_000, nanos=123_000_000)


class IngressDouble(EmailDispatchServiceServicer):
    """Answers as told.

    Attributes:
        address: Where it listens.
        sent: The requests of SendEmail and BatchSendEmails.
        refused_members: What emails with these subjects end with in a batch.
        asked: The requests of GetEmail.
        cancelled: The requests of CancelEmail.
        refusal: What the next calls end with, if anything.
        states: What GetEmail answers one after the other, the last one again and again.
        emails: What ListEmails lists.
        listed: The requests of ListEmails.
        happenings: What each call of WatchEmails tells before it ends, with the status it ends with; None: it goes on.
        watched: The requests of WatchEmails.
    """

    def __init__(self) -> None:
        self.address = ""
        self.sent: list[SendEmailRequest] = []
        self.refused_members: dict[str, Status] = {}
        self.asked: list[GetEmailRequest] = []
        self.cancelled: list[CancelEmailRequest] = []
        self.refusal: Status | None = None
        self.states: list[Email | grpc.StatusCode] = [email()]
        self.emails: list[Email] = []
        self.listed: list[ListEmailsRequest] = []
        self.happenings: list[tuple[list[WatchEmailsResponse], grpc.StatusCode | None]] = []
        self.watched: list[WatchEmailsRequest] = []

    def refuse_with(self, *details: Message, code: int = INVALID_ARGUMENT, message: str = "the request is bad") -> None:
        self.refusal = Status(code=code, message=message)
        for detail in details:
            self.refusal.details.add().Pack(detail)

    def SendEmail(  # noqa: N802 - the name in the contract
        self, request: SendEmailRequest, context: grpc.ServicerContext
    ) -> SendEmailResponse:
        self.sent.append(request)
        self._end_if_refused(context)
        return SendEmailResponse(email_id=EMAIL_ID, status=EmailStatus.EMAIL_STATUS_QUEUED, accepted_at=NOON)

    def BatchSendEmails(  # noqa: N802 - the name in the contract
        self, request: BatchSendEmailsRequest, context: grpc.ServicerContext
    ) -> BatchSendEmailsResponse:
        self.sent.extend(request.requests)
        self._end_if_refused(context)
        accepted = SendEmailResponse(email_id=EMAIL_ID, status=EmailStatus.EMAIL_STATUS_QUEUED, accepted_at=NOON)
        return BatchSendEmailsResponse(
            results=[
                SendEmailResult(error=self.refused_members[each.inline.subject])
                if each.inline.subject in self.refused_members
                else SendEmailResult(response=accepted)
                for each in request.requests
            ]
        )

    def GetEmail(  # noqa: N802 - the name in the contract
        self, request: GetEmailRequest, context: grpc.ServicerContext
    ) -> GetEmailResponse:
        self.asked.append(request)
        self._end_if_refused(context)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, grpc.StatusCode):
            context.abort(state, "not now")
        return GetEmailResponse(email=state)

    def CancelEmail(  # noqa: N802 - the name in the contract
        self, request: CancelEmailRequest, context: grpc.ServicerContext
    ) -> CancelEmailResponse:
        self.cancelled.append(request)
        self._end_if_refused(context)
        return CancelEmailResponse(email=email(EmailStatus.EMAIL_STATUS_CANCELLED))

    def ListEmails(  # noqa: N802 - the name in the contract
        self, request: ListEmailsRequest, context: grpc.ServicerContext
    ) -> ListEmailsResponse:
        self.listed.append(request)
        self._end_if_refused(context)
        begin = int(request.page_token or "0")
        end = begin + request.page_size
        more = end < len(self.emails)
        return ListEmailsResponse(emails=self.emails[begin:end], next_page_token=str(end) if more else "")

    def WatchEmails(  # noqa: N802 - the name in the contract
        self, request: WatchEmailsRequest, context: grpc.ServicerContext
    ) -> Iterator[WatchEmailsResponse]:
        self.watched.append(request)
        self._end_if_refused(context)
        context.send_initial_metadata((("resume-token", request.resume_token or "begun"),))
        told, end = self.happenings.pop(0)
        yield from told
        if end is not None:
            context.abort(end, "it ends")
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()

    def _end_if_refused(self, context: grpc.ServicerContext) -> None:
        if self.refusal is not None:
            context.abort_with_status(to_status(self.refusal))


def email(status: EmailStatus.ValueType = EmailStatus.EMAIL_STATUS_SUCCESS, **fields: str) -> Email:
    found = Email(
        email_id=EMAIL_ID,
        idempotency_key="welcome-ada",
        kind=EmailKind.EMAIL_KIND_WELCOME,
        priority=Priority.PRIORITY_HIGH,
        from_address="Acme <hello@acme.example>",
        to=["ada@example.com", "grace@example.com"],
        subject="Welcome",
        status=status,
        attempts=1,
        created_at=NOON,
        updated_at=NOON,
    )
    if status == EmailStatus.EMAIL_STATUS_SUCCESS:
        found.delivery = DeliveryState.DELIVERY_STATE_DELIVERED
    found.MergeFrom(Email(**fields))  # type: ignore[arg-type]
    return found


class ConsumerDouble(EmailOperationsServiceServicer):
    """Answers GetEmailTimeline with its entries, and what changes something as done."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[GetEmailTimelineRequest] = []
        self.entries = [
            TimelineEntry(at=NOON, what="ACCEPTED"),
            TimelineEntry(at=NOON, what="ATTEMPT_FAILED", attempt=1, detail="no\x1banswer", consumer="consumer-1"),
        ]

    def GetEmailTimeline(  # noqa: N802 - the name in the contract
        self,
        request: GetEmailTimelineRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> GetEmailTimelineResponse:
        self.asked.append(request)
        return GetEmailTimelineResponse(entries=self.entries)

    def ReplayDeadLetters(self, *_: object) -> ReplayDeadLettersResponse:  # noqa: N802 - this and those below: as above
        return ReplayDeadLettersResponse(replayed=2)

    def DiscardDeadLetters(self, *_: object) -> DiscardDeadLettersResponse:  # noqa: N802
        return DiscardDeadLettersResponse(discarded=1)

    def ResolveDeadLetters(self, *_: object) -> ResolveDeadLettersResponse:  # noqa: N802
        return ResolveDeadLettersResponse(resolved=1)

    def AddSuppression(self, *_: object) -> AddSuppressionResponse:  # noqa: N802
        return AddSuppressionResponse()

    def RemoveSuppression(self, *_: object) -> RemoveSuppressionResponse:  # noqa: N802
        return RemoveSuppressionResponse()

    def EraseRecipient(self, *_: object) -> EraseRecipientResponse:  # noqa: N802
        return EraseRecipientResponse(erased=3)

    def PauseDelivery(self, *_: object) -> PauseDeliveryResponse:  # noqa: N802
        return PauseDeliveryResponse()

    def ResumeDelivery(self, *_: object) -> ResumeDeliveryResponse:  # noqa: N802
        return ResumeDeliveryResponse()
