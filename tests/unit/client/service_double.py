"""A service in this process: a real gRPC server that answers as told and remembers what it was asked."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceServicer
from sred.email.v1.email_pb2 import EMAIL_STATUS_CANCELLED, EMAIL_STATUS_QUEUED, EMAIL_STATUS_SUCCESS, Email, EmailEvent


def status(code: grpc.StatusCode, *details: Message, message: str = "no") -> Status:
    made = Status(code=code.value[0], message=message)
    for detail in details:
        made.details.add().Pack(detail)
    return made


def later(code: grpc.StatusCode, seconds: float = 0.0) -> Status:
    return status(code, RetryInfo(retry_delay=Duration(nanos=int(seconds * 1e9))))


class ServiceDouble(EmailDispatchServiceServicer):
    """Answers as told.

    Attributes:
        address: Where it listens.
        status: Of each email.
        answers: What the next calls end with; None, or nothing left: they succeed.
        asked: The requests.
        metadata: Of each call.
        streams: What each next watch tells before it ends: an event's reason, ``begin: TOKEN`` for the token of
            its beginning, or a status to end with.
    """

    def __init__(self) -> None:
        self.address = ""
        self.status = EMAIL_STATUS_QUEUED
        self.answers: list[Status | None] = []
        self.asked: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.streams: list[list[str | Status]] = []

    async def SendEmail(self, request: pb.SendEmailRequest, context: Any) -> pb.SendEmailResponse:  # noqa: N802
        await self._begin(request, context)
        return pb.SendEmailResponse(email_id=f"id of {request.idempotency_key}", status=EMAIL_STATUS_QUEUED)

    async def BatchSendEmails(  # noqa: N802 - named by the contract
        self, request: pb.BatchSendEmailsRequest, context: Any
    ) -> pb.BatchSendEmailsResponse:
        await self._begin(pb.BatchSendEmailsRequest(), context)
        results = []
        for each in request.requests:
            self.asked.append(each.idempotency_key)
            answer = self.answers.pop(0) if self.answers else None
            response = pb.SendEmailResponse(email_id=f"id of {each.idempotency_key}", status=EMAIL_STATUS_QUEUED)
            results.append(pb.SendEmailResult(error=answer) if answer else pb.SendEmailResult(response=response))
        return pb.BatchSendEmailsResponse(results=results)

    async def GetEmail(self, request: pb.GetEmailRequest, context: Any) -> pb.GetEmailResponse:  # noqa: N802
        await self._begin(request, context)
        return pb.GetEmailResponse(email=Email(status=self.status))

    async def CancelEmail(self, request: pb.CancelEmailRequest, context: Any) -> pb.CancelEmailResponse:  # noqa: N802
        await self._begin(request, context)
        return pb.CancelEmailResponse(email=Email(status=EMAIL_STATUS_CANCELLED))

    async def WatchEmails(  # noqa: N802 - named by the contract
        self, request: pb.WatchEmailsRequest, context: Any
    ) -> AsyncIterator[pb.WatchEmailsResponse]:
        self.asked.append(request)
        for told in self.streams.pop(0):
            if isinstance(told, Status):
                await context.abort_with_status(to_status(told))
            elif told.startswith("begin: "):
                await context.send_initial_metadata((("resume-token", told.removeprefix("begin: ")),))
            elif told == "token only":
                yield pb.WatchEmailsResponse(resume_token=told)
            else:
                event = EmailEvent(email_id="1", status=EMAIL_STATUS_SUCCESS, reason=told)
                yield pb.WatchEmailsResponse(event=event, resume_token=f"after {told}")

    async def _begin(self, request: Message, context: Any) -> None:
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            await context.abort_with_status(to_status(answer))
