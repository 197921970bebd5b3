"""``sred-email cancel``."""

from typing import Annotated

import typer

from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest
from sred_email_operator import output
from sred_email_operator.connection import dispatch_service
from sred_email_operator.options import (
    DEFAULT_INGRESS_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    IngressAddress,
    TimeoutSeconds,
)


def cancel(
    email_id: Annotated[str, typer.Argument(metavar="EMAIL_ID", help="Id of the email.")],
    *,
    address: IngressAddress = DEFAULT_INGRESS_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Cancel an email that waits, and tell its state from then on.

    One that is being sent, may have been accepted already, or has ended is left alone.
    """
    with dispatch_service(address) as service:
        response = service.CancelEmail(CancelEmailRequest(email_id=email_id), timeout=timeout_s)
    output.show(response.email, as_json=as_json)
