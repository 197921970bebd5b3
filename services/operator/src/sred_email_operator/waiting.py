"""Waiting for an email to end."""

import time
from collections.abc import Callable

import grpc

from sred.email.v1.dispatch_service_pb2 import GetEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.email_pb2 import Email, EmailStatus
from sred_email_operator import output

ENDS = frozenset(
    {
        EmailStatus.EMAIL_STATUS_SUCCESS,
        EmailStatus.EMAIL_STATUS_FAILED,
        EmailStatus.EMAIL_STATUS_CANCELLED,
        EmailStatus.EMAIL_STATUS_EXPIRED,
        EmailStatus.EMAIL_STATUS_SUPPRESSED,
    }
)
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_GROWTH = 1.5


def wait_until_ended(
    service: EmailDispatchServiceStub,
    email_id: str,
    *,
    timeout_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> Email:
    """Ask for an email's state until it has ended; on a terminal a spinner shows the state.

    Args:
        service: The ingress.
        email_id: Which email.
        timeout_s: How long one call may take, and how long the service may be away meanwhile.
        pause: Waits so many seconds.

    Returns:
        The email at its end.

    Raises:
        grpc.RpcError: A call failed for another reason than a short absence of the service.
    """
    request = GetEmailRequest(email_id=email_id)
    pause_s, away_s = _FIRST_PAUSE_S, 0.0
    with output.spinner(f"{email_id} is on its way") as tell:
        while True:
            try:
                email = service.GetEmail(request, timeout=timeout_s).email
            except grpc.RpcError as error:
                if not _is_away(error) or away_s >= timeout_s:
                    raise
                away_s += pause_s
            else:
                if email.status in ENDS:
                    return email
                away_s = 0.0
                tell(f"{email_id} is {output.enum_name(EmailStatus.DESCRIPTOR, email.status)}")
            pause(pause_s)
            pause_s = min(pause_s * _GROWTH, _LONGEST_PAUSE_S)


def _is_away(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE
