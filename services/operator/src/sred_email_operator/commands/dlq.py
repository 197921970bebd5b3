"""``sred-email dlq``: emails that were given up."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from sred.email.v1.email_pb2 import DeadLetter, DeadLetterReason, EmailKind
from sred.email.v1.operations_service_pb2 import (
    GetDeadLetterRequest,
    ListDeadLetterGroupsRequest,
    ListDeadLettersRequest,
)
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output
from sred_email_operator.choices import enum_value
from sred_email_operator.commands.dlq_changes import discard, replay, resolve
from sred_email_operator.commands.letter_choice import find_group, group_name, group_words, reason_named
from sred_email_operator.connection import operations_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    ConsumerAddress,
    TimeoutSeconds,
)

dlq = typer.Typer(
    name="dlq",
    help="Emails that were given up. Look at them, send them again, or say what became of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PAGE = 500
_WIDTHS = (27, 36, 18, 20, 24, 0)
_HEAD = ("failed_at", "dead_letter_id", "reason", "kind", "to", "error")
_GROUP_WIDTHS = (8, 7, 6, 6, 0)
_GROUP_HEAD = ("group", "letters", "oldest", "newest", "reason: error")
_ID = "019a9c2e-7d40-7000-8000-2f3b1c5d7e90"


def _example(command: str) -> str:
    return f"\b\nExample:\n  {command}"


@dlq.command("list", epilog=_example("sred-email dlq list --reason REJECTED --limit 20"))
def list_letters(  # noqa: PLR0913 - an argument for each option
    *,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help=f"One of {output.enum_choices(DeadLetterReason.DESCRIPTOR)}. Default: any."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Of this group, as `sred-email dlq groups` names it. Default: any."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help=f"One of {output.enum_choices(EmailKind.DESCRIPTOR)}. Default: any."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The most to list.")] = 50,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the latest first. With --json each is one object on a line of its own."""
    request = ListDeadLettersRequest()
    if reason is not None and group is not None:
        raise typer.BadParameter("has one reason: leave --reason out", param_hint="--group")
    if reason is not None:
        request.reason = reason_named(reason)
    if kind is not None:
        request.kind = EmailKind.ValueType(enum_value(EmailKind.DESCRIPTOR, kind, "--kind"))
    listed = 0
    with operations_service(address) as service:
        if group is not None:
            found = find_group(service, group, timeout_s).group
            request.reason, request.error_group = found.reason, found.error_group
        for letter in _pages(service, request, limit, timeout_s):
            if as_json:
                output.show_line(letter)
            else:
                if listed == 0:
                    output.show_row(*zip(_HEAD, _WIDTHS, strict=True))
                _show(letter)
            listed += 1
    if not as_json and listed == 0:
        output.print_note("no dead letter is like that")
    elif not as_json and request.page_token:
        output.print_note(f"there are more: these are the latest {limit}, --limit shows others")


@dlq.command(epilog=_example("sred-email dlq groups\n  sred-email dlq replay --group 5a1f09c2"))
def groups(
    *,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason and error, the largest group first.

    A group has a name, which --group of the other commands takes. At most 100 are shown. With --json each is one object
    on a line of its own.
    """
    with operations_service(address) as service:
        answer = service.ListDeadLetterGroups(ListDeadLetterGroupsRequest(), timeout=timeout_s)
    if as_json:
        for each in answer.groups:
            output.show_line(each, name=group_name(each.group))
        return
    if not answer.groups:
        output.print_note("there is no dead letter")
        return
    now = datetime.now(UTC)
    output.show_row(*zip(_GROUP_HEAD, _GROUP_WIDTHS, strict=True))
    for each in answer.groups:
        cells = (
            group_name(each.group),
            f"{'>' if each.more else ''}{each.letters}",
            output.age(now - each.oldest_failed_at.ToDatetime(UTC)),
            output.age(now - each.latest_failed_at.ToDatetime(UTC)),
            group_words(each.group),
        )
        output.show_row(*zip(cells, _GROUP_WIDTHS, strict=True), wrapped=True)
    if answer.more:
        output.print_note("there are more groups than these: handle some of them, and ask again")


@dlq.command(epilog=_example(f"sred-email dlq show {_ID} --json"))
def show(
    dead_letter_id: Annotated[str, typer.Argument(metavar="DEAD_LETTER_ID", help="Id of the dead letter.")],
    *,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter."""
    with operations_service(address) as service:
        request = GetDeadLetterRequest(dead_letter_id=dead_letter_id)
        response = service.GetDeadLetter(request, timeout=timeout_s)
    output.show(response.dead_letter, as_json=as_json)


dlq.command(epilog=_example(f"sred-email dlq replay {_ID}\n  sred-email dlq replay --group 5a1f09c2"))(replay)
dlq.command(epilog=_example(f"sred-email dlq resolve {_ID} --delivered --note 'seen in the provider\\'s log'"))(resolve)
dlq.command(epilog=_example(f"sred-email dlq discard {_ID} --yes\n  sred-email dlq discard --reason MALFORMED"))(
    discard
)


def _pages(
    service: EmailOperationsServiceStub, request: ListDeadLettersRequest, limit: int, timeout_s: float
) -> Iterator[DeadLetter]:
    """Follow the pages; afterwards the request has the token of the one that would be next."""
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        response = service.ListDeadLetters(request, timeout=timeout_s)
        yield from response.dead_letters
        limit -= len(response.dead_letters)
        request.page_token = response.next_page_token
        if not request.page_token:
            return


def _show(letter: DeadLetter) -> None:
    first, *others = letter.to or [""]
    cells = (
        output.shown(letter.failed_at),
        letter.dead_letter_id,
        output.shown(letter.reason, DeadLetterReason.DESCRIPTOR),
        output.shown(letter.kind, EmailKind.DESCRIPTOR),
        f"{first} +{len(others)}" if others else first,
        letter.error,
    )
    output.show_row(*zip(cells, _WIDTHS, strict=True))
