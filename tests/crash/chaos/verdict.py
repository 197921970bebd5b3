"""Lost, doubled, wrong: what callers, log and provider say, held against each other. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from crash.chaos.callers import Ledger
from crash.chaos.evidence import Evidence, Row
from crash.chaos.letters import Letter
from crash.chaos.postbox import Arrival
from support.world import ENDED

_UNEXPLAINED = "not given up for what it is"


@dataclass(slots=True)
class Verdict:
    """What was found about the emails; a line for each that is not as it must be.

    Attributes:
        lost: Accepted and not in the log, not ended, or said to be sent and never delivered.
        doubled: Delivered more than once.
        wrong: Everything else that breaks a promise.
        given_up: Dead letters that neither the provider's refusal nor its silence about a refused one explains.
        unanswered: Calls that never got an answer.
        bad_ids: Emails that any of the lines is about.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bad_ids: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.wrong or self.given_up or self.unanswered)


def judge(ledger: Ledger, evidence: Evidence, arrivals: Mapping[str, list[Arrival]]) -> Verdict:
    """Hold everything against everything.

    Args:
        ledger: What the callers know.
        evidence: What the log says.
        arrivals: What reached the recipients, by token.
    """
    verdict = Verdict(wrong=list(ledger.wrong))
    rows = {row.token: row for row in evidence.rows}
    verdict.statuses.update(row.status for row in evidence.rows)
    verdict.reasons.update(row.reason for row in evidence.rows if row.reason)
    for token, letter in ledger.letters.items():
        row, email_id = rows.get(token), ledger.email_ids.get(token)
        if email_id is None:
            verdict.unanswered.append(f"{token}: no answer; the log {'has' if row else 'does not have'} it")
        elif row is None:
            verdict.lost.append(f"{token}: {email_id} was answered OK and is not in the log")
        elif row.email_id != email_id:
            verdict.wrong.append(f"{token}: {email_id} was answered OK, and the log calls it {row.email_id}")
        if row is not None:
            _judge_email(verdict, letter, row, arrivals.get(token, []))
    for token in (arrivals.keys() | rows.keys()) - ledger.letters.keys():
        verdict.wrong.append(f"{token}: nobody sent it, and it was {'accepted' if token in rows else 'delivered'}")
    for token in arrivals.keys() & ledger.letters.keys() - rows.keys():
        verdict.wrong.append(f"{token}: delivered, and not in the log")
    return verdict


def _judge_email(verdict: Verdict, letter: Letter, row: Row, arrivals: list[Arrival]) -> None:
    before = len(verdict.lost) + len(verdict.doubled) + len(verdict.wrong) + len(verdict.given_up)
    name = f"{row.token} {row.email_id}"
    if row.status not in ENDED:
        verdict.lost.append(f"{name}: never ended; it is {row.status}, delivered {len(arrivals)} times")
    elif row.status == "SUCCESS" and not arrivals:
        verdict.lost.append(f"{name}: SUCCESS, and never delivered")
    if len(arrivals) > 1:
        keys = ", ".join(str(arrival.key) for arrival in arrivals)
        verdict.doubled.append(f"{name}: {row.status}, delivered {len(arrivals)} times, under the keys {keys}")
    _judge_content(verdict, letter, row, arrivals)
    if row.status == "FAILED":
        _judge_failure(verdict, letter, row, arrivals)
    elif letter.refused and row.status == "SUCCESS":
        verdict.wrong.append(f"{name}: SUCCESS, although the provider refuses it")
    elif row.status in ENDED - {"SUCCESS"}:
        verdict.wrong.append(f"{name}: {row.status}, which nobody asked for")
    if len(verdict.lost) + len(verdict.doubled) + len(verdict.wrong) + len(verdict.given_up) > before:
        verdict.bad_ids.append(row.email_id)


def _judge_content(verdict: Verdict, letter: Letter, row: Row, arrivals: list[Arrival]) -> None:
    name = f"{row.token} {row.email_id}"
    if any(arrival.digest != letter.digest for arrival in arrivals):
        verdict.wrong.append(f"{name}: delivered with another content")
    if row.status == "SUCCESS" and arrivals and row.provider_id not in {arrival.provider_id for arrival in arrivals}:
        verdict.wrong.append(f"{name}: the log has the provider's id of another email")


def _judge_failure(verdict: Verdict, letter: Letter, row: Row, arrivals: list[Arrival]) -> None:
    name = f"{row.token} {row.email_id}"
    if not row.reason:
        verdict.wrong.append(f"{name}: FAILED, without a dead letter")
    elif not letter.refused:
        verdict.given_up.append(f"{name}: {row.reason}, delivered {len(arrivals)} times")
    elif row.reason != "REJECTED" and not row.may_have_been_accepted:
        verdict.given_up.append(f"{name}: {row.reason}, {_UNEXPLAINED}")
    if arrivals and not row.may_have_been_accepted:
        verdict.wrong.append(f"{name}: {row.reason}, certainly not sent by its dead letter, and delivered")
