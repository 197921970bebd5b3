"""The gRPC face of the ingress: translate, delegate, translate back."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1 import dispatch_service_pb2_grpc, email_pb2
from sred_email_core.deeds import deed_of
from sred_email_core.email_send_log.events import EventRecord
from sred_email_core.email_send_log.records import EmailRecord
from sred_email_core.error_status import status_of
from sred_email_core.errors import EmailDispatchError, FieldViolation, InvalidRequestError
from sred_email_ingress.composition import IngressParts
from sred_email_ingress.dispatch import Acceptance
from sred_email_ingress.in_order import in_order
from sred_email_ingress.validation import parse_email_id

MAX_BATCH = 1000
"""Emails in one BatchSendEmails."""
MAX_UNANSWERED = 200
"""Emails of one stream that are on their way at once: no more is read before the first of them is answered."""


class EmailDispatchServicer(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """Serves EmailDispatchService; RPCs that are not here answer UNIMPLEMENTED."""

    def __init__(self, parts: IngressParts) -> None:
        self._dispatch = parts.dispatch
        self._cancellation = parts.cancellation
        self._listing = parts.listing
        self._watch = parts.watch

    async def SendEmail(  # noqa: N802 - named by the contract
        self,
        request: pb.SendEmailRequest,
        context: grpc.aio.ServicerContext[pb.SendEmailRequest, pb.SendEmailResponse],
    ) -> pb.SendEmailResponse:
        """Accept one email."""
        return _response(await self._dispatch.send(request, time_left_s=context.time_remaining()))

    async def BatchSendEmails(  # noqa: N802 - named by the contract
        self,
        request: pb.BatchSendEmailsRequest,
        context: grpc.aio.ServicerContext[pb.BatchSendEmailsRequest, pb.BatchSendEmailsResponse],
    ) -> pb.BatchSendEmailsResponse:
        """Accept many emails, each on its own."""
        if len(request.requests) > MAX_BATCH:
            raise InvalidRequestError(
                [FieldViolation("requests", f"must hold at most {MAX_BATCH} emails; send several")]
            )
        results = await self._dispatch.send_many(request.requests, time_left_s=context.time_remaining())
        return pb.BatchSendEmailsResponse(results=[_result(result) for result in results])

    async def StreamSendEmails(  # noqa: N802 - named by the contract
        self,
        requests: AsyncIterator[pb.StreamSendEmailsRequest],
        context: grpc.aio.ServicerContext[pb.StreamSendEmailsRequest, pb.StreamSendEmailsResponse],
    ) -> AsyncIterator[pb.StreamSendEmailsResponse]:
        """Accept emails as they come; results in the order of the requests."""

        async def send(request: pb.StreamSendEmailsRequest) -> list[Acceptance | EmailDispatchError]:
            return await self._dispatch.send_many([request.request], time_left_s=context.time_remaining())

        async with aclosing(in_order(requests, send, most=MAX_UNANSWERED)) as results:
            async for request, (result,) in results:
                yield pb.StreamSendEmailsResponse(
                    result=_result(result), idempotency_key=request.request.idempotency_key
                )

    async def GetEmail(  # noqa: N802 - named by the contract
        self,
        request: pb.GetEmailRequest,
        context: grpc.aio.ServicerContext[pb.GetEmailRequest, pb.GetEmailResponse],  # noqa: ARG002
    ) -> pb.GetEmailResponse:
        """One email, by its id or its key."""
        which = request.WhichOneof("lookup")
        record = await self._dispatch.get(
            email_id=request.email_id if which == "email_id" else None,
            idempotency_key=request.idempotency_key if which == "idempotency_key" else None,
        )
        return pb.GetEmailResponse(email=_email(record))

    async def ListEmails(  # noqa: N802 - named by the contract
        self,
        request: pb.ListEmailsRequest,
        context: grpc.aio.ServicerContext[pb.ListEmailsRequest, pb.ListEmailsResponse],  # noqa: ARG002
    ) -> pb.ListEmailsResponse:
        """Emails by pages."""
        page, token = await self._listing.page(request)
        return pb.ListEmailsResponse(emails=[_email(record) for record in page], next_page_token=token)

    async def CancelEmail(  # noqa: N802 - named by the contract
        self,
        request: pb.CancelEmailRequest,
        context: grpc.aio.ServicerContext[pb.CancelEmailRequest, pb.CancelEmailResponse],
    ) -> pb.CancelEmailResponse:
        """Cancel one email."""
        deed = deed_of(context, "CANCEL", str(parse_email_id(request.email_id)))
        return pb.CancelEmailResponse(email=_email(await self._cancellation.cancel(request.email_id, deed)))

    async def WatchEmails(  # noqa: N802 - named by the contract
        self,
        request: pb.WatchEmailsRequest,
        context: grpc.aio.ServicerContext[pb.WatchEmailsRequest, pb.WatchEmailsResponse],
    ) -> AsyncIterator[pb.WatchEmailsResponse]:
        """What happens to emails, until the caller hangs up."""
        watch = await self._watch.begin(request.email_ids, request.resume_token)
        async with aclosing(watch.events) as events:
            # The caller may know that nothing is missed from here on.
            await context.send_initial_metadata((("resume-token", watch.resume_token),) if watch.resume_token else ())
            async for event, resume_token in events:
                yield pb.WatchEmailsResponse(event=_event(event), resume_token=resume_token)


def _response(acceptance: Acceptance) -> pb.SendEmailResponse:
    return pb.SendEmailResponse(
        email_id=acceptance.email_id,
        status=email_pb2.EmailStatus.Value(f"EMAIL_STATUS_{acceptance.status}"),
        deduplicated=acceptance.deduplicated,
        accepted_at=_timestamp(acceptance.accepted_at),
    )


def _result(result: Acceptance | EmailDispatchError) -> pb.SendEmailResult:
    if isinstance(result, EmailDispatchError):
        return pb.SendEmailResult(error=status_of(result))
    return pb.SendEmailResult(response=_response(result))


def _email(record: EmailRecord) -> email_pb2.Email:
    return email_pb2.Email(
        email_id=str(record.id),
        idempotency_key=record.idempotency_key,
        kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{record.kind}"),
        priority=email_pb2.Priority.Value(f"PRIORITY_{record.priority}"),
        from_address=record.from_address,
        to=record.recipients,
        subject=record.subject,
        status=email_pb2.EmailStatus.Value(f"EMAIL_STATUS_{record.status}"),
        attempts=record.attempts,
        last_error=record.last_error or "",
        provider_message_id=record.provider_message_id or "",
        delivery=email_pb2.DeliveryState.Value(f"DELIVERY_STATE_{record.delivery or 'UNSPECIFIED'}"),
        created_at=_timestamp(record.created_at),
        send_at=_timestamp(record.send_at),
        expire_at=_timestamp(record.expire_at),
        sent_at=_timestamp(record.sent_at),
        updated_at=_timestamp(record.updated_at),
        next_attempt_at=_timestamp(record.next_attempt_at),
        caller=record.caller or "",
    )


def _event(event: EventRecord) -> email_pb2.EmailEvent:
    return email_pb2.EmailEvent(
        email_id=str(event.email_id),
        status=email_pb2.EmailStatus.Value(f"EMAIL_STATUS_{event.status}"),
        delivery=email_pb2.DeliveryState.Value(f"DELIVERY_STATE_{event.delivery or 'UNSPECIFIED'}"),
        at=_timestamp(event.at),
        attempt=event.attempt,
        reason=event.reason or "",
        provider_message_id=event.provider_message_id or "",
    )


def _timestamp(when: datetime | None) -> Timestamp | None:
    if when is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(when)
    return stamp
