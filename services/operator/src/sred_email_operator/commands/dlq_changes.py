"""``sred-email dlq replay``, ``resolve`` and ``discard``."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer

from sred.email.v1.email_pb2 import DeadLetterReason
from sred.email.v1.operations_service_pb2 import (
    DeadLetterIds,
    DiscardDeadLettersRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
    ResolveDeadLettersRequest,
)
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output
from sred_email_operator.choices import enum_value
from sred_email_operator.chunks import CHUNK, Done, in_chunks, work
from sred_email_operator.confirmation import Yes, confirm
from sred_email_operator.connection import operations_service
from sred_email_operator.options import DEFAULT_CONSUMER_ADDRESS, AsJson, ConsumerAddress, TimeoutSeconds

_TIMEOUT_S = 60.0
"""One call may move hundreds of emails."""
_SelectingRequest = TypeVar("_SelectingRequest", ReplayDeadLettersRequest, DiscardDeadLettersRequest)

_Ids = Annotated[list[str] | None, typer.Argument(metavar="DEAD_LETTER_ID", help="Ids of dead letters.")]
_All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
_Reason = Annotated[
    str | None,
    typer.Option(
        metavar="REASON", help=f"Every one with this reason: {output.enum_choices(DeadLetterReason.DESCRIPTOR)}."
    ),
]


def replay(  # noqa: PLR0913 - an argument for each option
    ids: _Ids = None,
    *,
    all_: _All = False,
    reason: _Reason = None,
    include_outcome_unknown: Annotated[
        bool,
        typer.Option(
            "--include-outcome-unknown", help="Also those that the recipient may have already: they may come twice."
        ),
    ] = False,
    yes: Yes = False,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again, the oldest first. By id, by reason, or all.

    MALFORMED ones are never sent, POISON only by id. What must not be sent again is skipped, and stays.
    """
    requests = _selections(ReplayDeadLettersRequest, ids, all_=all_, reason=reason)
    if all_:
        confirm("Send every dead letter again?", yes=yes)
    with operations_service(address) as service:
        _bound(service, requests[0], timeout_s)

        def call(request: ReplayDeadLettersRequest) -> Done:
            request.include_outcome_unknown = include_outcome_unknown
            answer = service.ReplayDeadLetters(request, timeout=timeout_s)
            return Done(answer.replayed, answer.remaining, answer.skipped)

        total = work(requests, call, doing="replaying", done_word="replayed", again=not ids)
    output.show_counts(as_json=as_json, replayed=total.done, skipped=total.skipped, remaining=total.remaining)
    if total.skipped:
        output.print_note("skipped: gone, or not to be replayed (`sred-email dlq replay --help` says what is)")
    if ids and not total.done:
        output.print_failure("none of them could be replayed")
        raise typer.Exit(1)


def resolve(  # noqa: PLR0913 - an argument for each option
    ids: Annotated[list[str], typer.Argument(metavar="DEAD_LETTER_ID", help="Ids of dead letters.")],
    *,
    delivered: Annotated[
        bool,
        typer.Option("--delivered/--not-delivered", help="Whether the recipients have the emails. Required."),
    ],
    note: Annotated[str, typer.Option(metavar="TEXT", help="How that is known: kept in timeline and audit.")] = "",
    yes: Yes = False,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Record what you know became of emails. Nothing is sent, and the dead letters are gone."""
    said = "delivered: they end SUCCESS" if delivered else "not delivered: they stay FAILED"
    confirm(f"Record of {len(ids)} dead letter(s) that the emails were {said}?", yes=yes)
    with operations_service(address) as service:

        def call(chunk: Sequence[str]) -> Done:
            request = ResolveDeadLettersRequest(ids=DeadLetterIds(values=chunk), delivered=delivered, note=note)
            return Done(service.ResolveDeadLetters(request, timeout=timeout_s).resolved)

        total = work(list(in_chunks(ids)), call, doing="resolving", done_word="resolved", again=False)
    output.show_counts(as_json=as_json, resolved=total.done)
    if not total.done:
        output.print_failure("none of them is there any more")
        raise typer.Exit(1)


def discard(  # noqa: PLR0913 - an argument for each option
    ids: _Ids = None,
    *,
    all_: _All = False,
    reason: _Reason = None,
    yes: Yes = False,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away, with their content. By id, by reason, or all. Their emails stay FAILED."""
    requests = _selections(DiscardDeadLettersRequest, ids, all_=all_, reason=reason)
    which = (
        "every dead letter"
        if all_
        else f"every dead letter with reason {reason}"
        if reason
        else f"{len(ids or [])} dead letter(s)"
    )
    confirm(f"Throw away {which}, with the content?", yes=yes)
    with operations_service(address) as service:
        _bound(service, requests[0], timeout_s)

        def call(request: DiscardDeadLettersRequest) -> Done:
            answer = service.DiscardDeadLetters(request, timeout=timeout_s)
            return Done(answer.discarded, answer.remaining)

        total = work(requests, call, doing="discarding", done_word="discarded", again=not ids)
    output.show_counts(as_json=as_json, discarded=total.done, remaining=total.remaining)
    if ids and not total.done:
        output.print_failure("none of them is there any more")
        raise typer.Exit(1)


def _selections(
    kind: type[_SelectingRequest], ids: list[str] | None, *, all_: bool, reason: str | None
) -> list[_SelectingRequest]:
    """The requests to make, each until nothing remains of it.

    Raises:
        typer.BadParameter: Not exactly one of ids, all and reason was given.
    """
    if bool(ids) + all_ + (reason is not None) != 1:
        raise typer.BadParameter("ids, --all or --reason is needed, one of them", param_hint="DEAD_LETTER_ID")
    if ids:
        return [kind(ids=DeadLetterIds(values=chunk)) for chunk in in_chunks(ids)]
    if all_:
        return [kind(all=True, limit=CHUNK)]
    value = enum_value(DeadLetterReason.DESCRIPTOR, reason or "", "--reason")
    return [kind(reason=DeadLetterReason.ValueType(value), limit=CHUNK)]


def _bound(
    service: EmailOperationsServiceStub, request: ReplayDeadLettersRequest | DiscardDeadLettersRequest, timeout_s: float
) -> None:
    """Let it end with what has failed by now: what fails again meanwhile is no part of it."""
    if request.HasField("ids"):
        return
    listing = ListDeadLettersRequest(page_size=1, reason=request.reason)
    for letter in service.ListDeadLetters(listing, timeout=timeout_s).dead_letters:
        request.failed_until.CopyFrom(letter.failed_at)
