"""``sred-email dlq replay``, ``resolve`` and ``discard``."""

from collections.abc import Sequence
from typing import Annotated

import typer

from sred.email.v1.operations_service_pb2 import (
    DeadLetterIds,
    DiscardDeadLettersRequest,
    ReplayDeadLettersRequest,
    ResolveDeadLettersRequest,
)
from sred_email_operator import output
from sred_email_operator.chunks import Done, in_chunks, work
from sred_email_operator.commands.letter_choice import All, Group, Ids, Reason, Wanted, requests_for
from sred_email_operator.confirmation import Yes, confirm
from sred_email_operator.connection import operations_service
from sred_email_operator.options import DEFAULT_CONSUMER_ADDRESS, AsJson, ConsumerAddress, TimeoutSeconds

_TIMEOUT_S = 60.0
"""One call may move hundreds of emails."""


def replay(  # noqa: PLR0913 - an argument for each option
    ids: Ids = None,
    *,
    all_: All = False,
    reason: Reason = None,
    group: Group = None,
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
    """Send dead letters again, the oldest first. By id, by group, by reason, or all.

    MALFORMED ones are never sent, POISON only by id. What must not be sent again is skipped, and stays.
    """
    wanted = Wanted(ids, all_, reason, group)
    if all_:
        confirm("Send every dead letter again?", yes=yes)
    with operations_service(address) as service:
        requests, _ = requests_for(ReplayDeadLettersRequest, wanted, service, timeout_s)

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
    ids: Ids = None,
    *,
    all_: All = False,
    reason: Reason = None,
    group: Group = None,
    yes: Yes = False,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away, with their content. By id, by group, by reason, or all. Their emails stay FAILED."""
    wanted = Wanted(ids, all_, reason, group)
    with operations_service(address) as service:
        requests, which = requests_for(DiscardDeadLettersRequest, wanted, service, timeout_s)
        confirm(f"Throw away {which}, with the content?", yes=yes)

        def call(request: DiscardDeadLettersRequest) -> Done:
            answer = service.DiscardDeadLetters(request, timeout=timeout_s)
            return Done(answer.discarded, answer.remaining)

        total = work(requests, call, doing="discarding", done_word="discarded", again=not ids)
    output.show_counts(as_json=as_json, discarded=total.done, remaining=total.remaining)
    if ids and not total.done:
        output.print_failure("none of them is there any more")
        raise typer.Exit(1)
