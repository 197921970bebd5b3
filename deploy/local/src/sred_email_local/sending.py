"""The samples, sent through the ingress as any caller would, and what became of them."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc.aio
from google.protobuf.struct_pb2 import Struct

from sred.email.v1.dispatch_service_pb2 import GetEmailRequest, SendEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.email_pb2 import Email, EmailKind, EmailStatus, TemplateContent
from sred_email_client import build_idempotency_key
from sred_email_local.samples import SAMPLES, Sample

_OPEN = frozenset({"UNSPECIFIED", "QUEUED", "SCHEDULED", "SENDING", "RETRYING"})
_CALL_S = 10.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one sample: where it stood when it was looked at last."""

    sample: Sample
    to: str
    email: Email

    @property
    def status(self) -> str:
        """Name of the `EmailStatus`, without prefix."""
        return EmailStatus.Name(self.email.status).removeprefix("EMAIL_STATUS_")

    @property
    def ended(self) -> bool:
        """Whether it will stay so."""
        return self.status not in _OPEN

    @property
    def took_ms(self) -> float | None:
        """Milliseconds from acceptance to the provider's answer; None if it was not sent."""
        if not self.email.HasField("sent_at"):
            return None
        return (self.email.sent_at.ToMicroseconds() - self.email.created_at.ToMicroseconds()) / 1000


def recipient(sample: Sample, *, sandbox: bool) -> str:
    """To whom a sample goes: through Resend itself, to its test address, as it refuses those of example.com.

    Source: https://resend.com/docs/dashboard/emails/send-test-emails
    """
    return f"{sample.person}@example.com" if sandbox else f"delivered+{sample.person}@resend.dev"


def sample_request(sample: Sample, to: str, run_id: str) -> SendEmailRequest:
    """The call that sends a sample; the same email if it is repeated within a run, another one in the next."""
    variables = Struct()
    variables.update(sample.variables)
    return SendEmailRequest(
        idempotency_key=build_idempotency_key(sample.kind, to, run_id),
        kind=EmailKind.Value(f"EMAIL_KIND_{sample.kind}"),
        to=[to],
        template=TemplateContent(template_id=sample.template_id, variables=variables),
    )


async def send_samples(address: str, token: str, *, sandbox: bool) -> Mapping[str, Sample]:
    """Send one email of each kind.

    Args:
        address: Of the ingress' gRPC, host:port.
        token: Of the caller; empty: none is needed.
        sandbox: Whether the emails stay on this machine.

    Returns:
        The samples by email id, in the order of the kinds.

    Raises:
        grpc.aio.AioRpcError: The ingress refused one.
    """
    run_id = uuid.uuid4().hex
    sent: dict[str, Sample] = {}
    async with _channel(address) as channel:
        ingress = EmailDispatchServiceStub(channel)
        for sample in SAMPLES:
            request = sample_request(sample, recipient(sample, sandbox=sandbox), run_id)
            response = await ingress.SendEmail(request, timeout=_CALL_S, wait_for_ready=True, metadata=_bearer(token))
            sent[response.email_id] = sample
    return sent


async def await_ends(address: str, token: str, sent: Mapping[str, Sample], timeout_s: float) -> Sequence[Result]:
    """Wait until each email has ended, or the time is over.

    Args:
        address: Of the ingress' gRPC, host:port.
        token: Of the caller; empty: none is needed.
        sent: Samples by email id.
        timeout_s: Seconds for all of them together.
    """
    deadline = time.monotonic() + timeout_s
    async with _channel(address) as channel:
        ingress = EmailDispatchServiceStub(channel)

        async def await_end(email_id: str, sample: Sample) -> Result:
            while True:
                response = await ingress.GetEmail(
                    GetEmailRequest(email_id=email_id), timeout=_CALL_S, metadata=_bearer(token)
                )
                result = Result(sample, ", ".join(response.email.to), response.email)
                if result.ended or time.monotonic() > deadline:
                    return result
                await asyncio.sleep(_POLL_S)

        return await asyncio.gather(*(await_end(email_id, sample) for email_id, sample in sent.items()))


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
