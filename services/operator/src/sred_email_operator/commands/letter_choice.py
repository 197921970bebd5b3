"""Which dead letters a command means: by id, all, by reason, or a group of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer

from sred.email.v1.email_pb2 import DeadLetterReason
from sred.email.v1.operations_service_pb2 import (
    DeadLetterGroup,
    DeadLetterGroupStats,
    DeadLetterIds,
    DiscardDeadLettersRequest,
    ListDeadLetterGroupsRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output
from sred_email_operator.choices import enum_value
from sred_email_operator.chunks import CHUNK, in_chunks

_SelectingRequest = TypeVar("_SelectingRequest", ReplayDeadLettersRequest, DiscardDeadLettersRequest)
_DIGITS = 8

Ids = Annotated[list[str] | None, typer.Argument(metavar="DEAD_LETTER_ID", help="Ids of dead letters.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
Reason = Annotated[
    str | None,
    typer.Option(
        metavar="REASON", help=f"Every one with this reason: {output.enum_choices(DeadLetterReason.DESCRIPTOR)}."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(metavar="GROUP", help="Every one of this group, as `sred-email dlq groups` names it."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says; exactly one of these."""

    ids: Sequence[str] | None
    all_: bool
    reason: str | None
    group: str | None

    def __post_init__(self) -> None:
        """Look whether it is one of them.

        Raises:
            typer.BadParameter: It is none, or several, or there is no such reason.
        """
        if bool(self.ids) + self.all_ + (self.reason is not None) + (self.group is not None) != 1:
            message = "ids, --all, --reason or --group is needed, one of them"
            raise typer.BadParameter(message, param_hint="DEAD_LETTER_ID")
        if self.reason is not None:
            reason_named(self.reason)


def reason_named(text: str) -> "DeadLetterReason.ValueType":
    """Read a reason.

    Raises:
        typer.BadParameter: There is no such reason.
    """
    return DeadLetterReason.ValueType(enum_value(DeadLetterReason.DESCRIPTOR, text, "--reason"))


def group_name(group: DeadLetterGroup) -> str:
    """A short name for a group, the same for each call and each replica."""
    return hashlib.sha256(f"{group.reason}\n{group.error_group}".encode()).hexdigest()[:_DIGITS]


def find_group(service: EmailOperationsServiceStub, name: str, timeout_s: float) -> DeadLetterGroupStats:
    """The group of that name.

    Raises:
        typer.Exit: There is none; stderr says so, and the exit code is 1.
    """
    groups = service.ListDeadLetterGroups(ListDeadLetterGroupsRequest(), timeout=timeout_s).groups
    for each in groups:
        if group_name(each.group) == name.lower():
            return each
    output.print_failure(f"there is no group {name}, or no more: `sred-email dlq groups` shows those that there are")
    raise typer.Exit(1)


def requests_for(
    kind: type[_SelectingRequest], wanted: Wanted, service: EmailOperationsServiceStub, timeout_s: float
) -> tuple[list[_SelectingRequest], str]:
    """The requests to make, each until nothing remains of it, and in words what they are about.

    They end with what has failed by now: what fails again meanwhile is no part of them.

    Raises:
        typer.Exit: There is no such group.
    """
    if wanted.ids:
        requests = [kind(ids=DeadLetterIds(values=chunk)) for chunk in in_chunks(wanted.ids)]
        return requests, _letters(len(wanted.ids))
    request, listing = kind(limit=CHUNK), ListDeadLettersRequest(page_size=1)
    if wanted.group is not None:
        found = find_group(service, wanted.group, timeout_s)
        request.group.CopyFrom(found.group)
        listing.reason, listing.error_group = found.group.reason, found.group.error_group
        words = f"{'more than ' if found.more else ''}{_letters(found.letters)} ({group_words(found.group)})"
    elif wanted.reason is not None:
        request.reason = listing.reason = reason_named(wanted.reason)
        words = f"every dead letter with reason {wanted.reason}"
    else:
        request.all = True
        words = "every dead letter"
    for letter in service.ListDeadLetters(listing, timeout=timeout_s).dead_letters:
        request.failed_until.CopyFrom(letter.failed_at)
    return [request], words


def group_words(group: DeadLetterGroup) -> str:
    """What the letters of a group have in common."""
    reason = output.enum_name(DeadLetterReason.DESCRIPTOR, group.reason)
    return f"{reason}: {group.error_group or 'no error'}"


def _letters(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"
