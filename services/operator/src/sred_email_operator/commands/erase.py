"""``sred-email erase``."""

from typing import Annotated

import typer

from sred.email.v1.operations_service_pb2 import EraseRecipientRequest
from sred_email_operator import output
from sred_email_operator.confirmation import Yes, confirm
from sred_email_operator.connection import operations_service
from sred_email_operator.options import DEFAULT_CONSUMER_ADDRESS, AsJson, ConsumerAddress, TimeoutSeconds

_TIMEOUT_S = 600.0
"""All of the log is looked at."""


def erase(
    recipient: Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")],
    *,
    yes: Yes = False,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Remove what is kept about a recipient, for good.

    That is the address, subjects and contents. Emails that wait are cancelled. Those that may have been accepted by the
    provider are erased later, by themselves.
    """
    confirm(f"Erase all that is kept about {recipient}, and cancel what waits for it?", yes=yes)
    with operations_service(address) as service:
        response = service.EraseRecipient(EraseRecipientRequest(address=recipient), timeout=timeout_s)
    output.show_counts(as_json=as_json, erased=response.erased, deferred=response.deferred)
    if response.deferred:
        output.print_note("deferred: a send of theirs may have been accepted; they are erased when it has ended")
