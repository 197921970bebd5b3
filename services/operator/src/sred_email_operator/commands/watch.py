"""``sred-email watch``."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import grpc
import typer

from sred.email.v1.dispatch_service_pb2 import WatchEmailsRequest, WatchEmailsResponse
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.email_pb2 import DeliveryState, EmailEvent, EmailStatus
from sred_email_operator import output
from sred_email_operator.connection import dispatch_service
from sred_email_operator.options import (
    DEFAULT_INGRESS_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    IngressAddress,
)

_PAUSE = timedelta(milliseconds=500)

_Ids = Annotated[list[str] | None, typer.Argument(metavar="[EMAIL_ID]...", help="Ids of emails. Default: all emails.")]
_Resume = Annotated[
    str, typer.Option("--resume-token", metavar="TOKEN", help="Go on after the event whose JSON had this token.")
]
_Patience = Annotated[
    float,
    typer.Option("--timeout", min=0.001, metavar="SECONDS", help="How long the service may be away before this ends."),
]


def watch(
    email_ids: _Ids = None,
    *,
    resume_token: _Resume = "",
    address: IngressAddress = DEFAULT_INGRESS_ADDRESS,
    timeout_s: _Patience = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Show what happens to emails, as it happens, until Ctrl-C.

    Of named emails the present state comes first. With --json each event is one object on a line of its own.
    """
    request = WatchEmailsRequest(email_ids=email_ids or [], resume_token=resume_token)
    try:
        with dispatch_service(address) as service:
            for response in _responses(service, request, patience_s=timeout_s):
                if as_json:
                    output.show_line(response.event, resume_token=response.resume_token)
                else:
                    _show(response.event)
    except KeyboardInterrupt:
        return


def _responses(
    service: EmailDispatchServiceStub, request: WatchEmailsRequest, *, patience_s: float
) -> Iterator[WatchEmailsResponse]:
    """What happens, also beyond the end of one ingress: the call is made again, with the last token.

    Raises:
        grpc.RpcError: The service is away for too long, or refuses.
    """
    away_since: float | None = None
    while True:
        call = service.WatchEmails(request)
        try:
            begun = dict(call.initial_metadata())  # comes when the watch has begun, or has failed
            request.resume_token = str(begun.get("resume-token", request.resume_token))
            if call.is_active():
                away_since = None
            for response in call:
                request.resume_token = response.resume_token
                yield response
        except grpc.RpcError as error:
            now = time.monotonic()
            away_since = away_since or now
            if not _is_away(error) or now - away_since >= patience_s:
                raise
            time.sleep(_PAUSE.total_seconds())
        else:
            return
        finally:
            call.cancel()


def _is_away(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE


def _show(event: EmailEvent) -> None:
    words = [f"attempt {event.attempt}"] if event.attempt else []
    words += filter(None, [event.reason, event.provider_message_id])
    output.show_row(
        (output.shown(event.at), 27),
        (event.email_id, 36),
        (output.shown(event.status, EmailStatus.DESCRIPTOR), 10),
        (output.shown(event.delivery, DeliveryState.DESCRIPTOR), 15),
        ("  ".join(words), 0),
    )
