"""``sred-email status``."""

from typing import Annotated

import typer

from sred.email.v1.dispatch_service_pb2 import GetEmailRequest
from sred_email_operator import output
from sred_email_operator.connection import dispatch_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_INGRESS_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    IngressAddress,
    TimelineAddress,
    TimeoutSeconds,
)
from sred_email_operator.timeline import line, timeline_of


def status(
    email_id: Annotated[str | None, typer.Argument(metavar="EMAIL_ID", help="Id of the email.")] = None,
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Its idempotency key, instead of the id.")
    ] = None,
    address: IngressAddress = DEFAULT_INGRESS_ADDRESS,
    consumer_address: TimelineAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Tell the state of one email, and what happened to it.

    It is named by its id or by its idempotency key. The consumer knows the whole timeline; where it does not answer,
    there is what the email itself tells.
    """
    if (email_id is None) == (key is None):
        raise typer.BadParameter("either an email id or --key KEY is needed", param_hint="EMAIL_ID")
    with dispatch_service(address) as service:
        request = (
            GetEmailRequest(email_id=email_id) if email_id is not None else GetEmailRequest(idempotency_key=key or "")
        )
        response = service.GetEmail(request, timeout=timeout_s)
    entries, whole = timeline_of(response.email, consumer_address, timeout_s=timeout_s)
    listed = output.Listed(entries, [line(entry) for entry in entries])
    output.show(response.email, as_json=as_json, timeline=listed, timeline_is_whole=whole)
