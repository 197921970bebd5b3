"""``sred-email pause`` and ``resume``."""

import json
from typing import Annotated

import typer

from sred.email.v1.email_pb2 import Priority
from sred.email.v1.operations_service_pb2 import PauseDeliveryRequest, ResumeDeliveryRequest
from sred_email_operator import output
from sred_email_operator.choices import enum_value
from sred_email_operator.connection import operations_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    ConsumerAddress,
    TimeoutSeconds,
)

_Lane = Annotated[
    str | None,
    typer.Option(
        "--lane", "--priority", metavar="LANE", help=f"One of {output.enum_choices(Priority.DESCRIPTOR)}. Default: all."
    ),
]


def pause(
    *,
    lane: _Lane = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who wonder.")] = "",
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Stop sending, for all consumers, until `resume`. Emails are accepted as ever; what is being sent ends."""
    priority = _priority(lane)
    with operations_service(address) as service:
        service.PauseDelivery(PauseDeliveryRequest(priority=priority, reason=reason), timeout=timeout_s)
    _tell("paused", priority, as_json=as_json)


def resume(
    *,
    lane: _Lane = None,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Go on sending, for all consumers."""
    priority = _priority(lane)
    with operations_service(address) as service:
        service.ResumeDelivery(ResumeDeliveryRequest(priority=priority), timeout=timeout_s)
    _tell("resumed", priority, as_json=as_json)


def _priority(lane: str | None) -> Priority.ValueType:
    return Priority.ValueType(0 if lane is None else enum_value(Priority.DESCRIPTOR, lane, "--lane"))


def _tell(what: str, priority: Priority.ValueType, *, as_json: bool) -> None:
    lanes = [output.enum_name(Priority.DESCRIPTOR, p) for p in Priority.values() if p and priority in (0, p)]
    typer.echo(json.dumps({what: lanes}) if as_json else f"{what}: {', '.join(lanes)}")
