"""An ingress in this process: a real gRPC server with a servicer that remembers what it was asked."""

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from sred.email.v1.dispatch_service_pb2 import (
    CancelEmailRequest,
    CancelEmailResponse,
    GetEmailRequest,
    GetEmailResponse,
    SendEmailRequest,
    SendEmailResponse,
)
from sred.email.v1.dispatch_service_pb2_grpc import (
    EmailDispatchServiceServicer,
)
from sred.email.v1.email_pb2 import DeliveryState, Email, EmailKind, EmailStatus, Priority

EMAIL_ID = "019a9c2e-7d40-7000-8000-2f3b1c5d7e90"
NOON = Timestamp(seconds=1_750_000_000, nanos=123_000_000)


class IngressDouble(EmailDispatchServiceServicer):
    """Answers as told.

    Attributes:
        address: Where it listens.
        sent: The requests of SendEmail.
        asked: The requests of GetEmail.
        cancelled: The requests of CancelEmail.
        refusal: What the next calls end with, if anything.
        states: What GetEmail answers one after the other, the last one again and again.
    """

    def __init__(self) -> None:
        self.address = ""
        self.sent: list[SendEmailRequest] = []
        self.asked: list[GetEmailRequest] = []
        self.cancelled: list[CancelEmailRequest] = []
        self.refusal: Status | None = None
        self.states: list[Email | grpc.StatusCode] = [email()]

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
