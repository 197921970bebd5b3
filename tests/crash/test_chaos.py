import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crash.chaos.callers import Ledger
from crash.chaos.evidence import Evidence, Row
from crash.chaos.faults import Happened
from crash.chaos.letters import Letter, LetterWriter
from crash.chaos.options import Options
from crash.chaos.postbox import Arrival
from crash.chaos.recovery import recoveries
from crash.chaos.run import run_chaos
from crash.chaos.schedule import Fault, FaultKind, plan
from crash.chaos.verdict import Verdict, judge

INGRESSES, CONSUMERS = ["ingress0", "ingress1"], ["consumer0", "consumer1", "consumer2"]


async def test_whatever_dies_each_accepted_email_is_sent_exactly_once(tmp_path: Path) -> None:
    report = await run_chaos(Options(duration_s=20, seed=1, rate=60, folder=tmp_path, rest_s=25))
    sys.stdout.write(report.as_text())
    assert report.problems == []
    assert report.ok
    assert (report.lost, report.doubled, report.wrong) == (0, 0, 0)
    assert report.accepted > 20 * 60 / 2
    assert report.conflicts_refused
    assert report.duplicates
    assert report.batches
    assert report.statuses["SUCCESS"] + report.dead_letters["REJECTED"] >= report.accepted * 0.99


def faults(seed: int, duration_s: float = 20) -> list[Fault]:
    return plan(seed, duration_s, ingresses=INGRESSES, consumers=CONSUMERS)


def test_a_seed_draws_the_same_faults_and_another_one_others() -> None:
    assert faults(1) == faults(1)
    assert faults(1) != faults(2)


@pytest.mark.parametrize("seed", range(20))
def test_twenty_seconds_see_nearly_every_kind_of_fault(seed: int) -> None:
    assert len({fault.kind for fault in faults(seed, 24)}) == len(FaultKind)
    assert sum(fault.kind is FaultKind.KILL for fault in faults(seed)) == 19


@pytest.mark.parametrize("seed", range(20))
def test_what_is_stopped_is_not_killed_before_it_wakes_up(seed: int) -> None:
    drawn = faults(seed, 60)
    for stopped in (fault for fault in drawn if fault.kind is FaultKind.FREEZE):
        wakes_s = stopped.at_s + stopped.lasts_s
        kills = [f for f in drawn if f.kind is FaultKind.KILL and stopped.at_s <= f.at_s <= wakes_s]
        assert stopped.service not in {kill.service for kill in kills}


# The verdict, on one email that went as it should until something is changed.


def letter(*, refused: bool = False) -> Letter:
    return replace(LetterWriter(1).write(), token="t1", refused=refused)


def row(**fields: object) -> Row:
    sent = Row("id1", "chaos/t1", "t1", "SUCCESS", "p1", 1.0, 2.0, "", may_have_been_accepted=False)
    return replace(sent, **fields)  # type: ignore[arg-type]


def arrival(**fields: object) -> Arrival:
    return replace(Arrival("p1", 2.0, "key", letter().digest), **fields)  # type: ignore[arg-type]


def verdict(rows: list[Row], arrivals: list[Arrival], *, refused: bool = False, answered: bool = True) -> Verdict:
    ledger = Ledger(letters={"t1": letter(refused=refused)}, email_ids={"t1": "id1"} if answered else {})
    return judge(ledger, Evidence(rows), {"t1": arrivals} if arrivals else {})


def test_an_email_sent_once_is_neither_lost_nor_doubled_nor_wrong() -> None:
    assert verdict([row()], [arrival()]).clean


def test_an_email_that_was_accepted_and_is_not_in_the_log_is_lost() -> None:
    assert verdict([], []).lost


def test_an_email_that_has_not_ended_is_lost() -> None:
    assert verdict([row(status="RETRYING")], []).lost
    assert verdict([row(status="SENDING")], [arrival()]).lost


def test_an_email_that_is_said_to_be_sent_and_never_came_is_lost() -> None:
    assert verdict([row()], []).lost


def test_an_email_that_came_twice_is_doubled() -> None:
    judged = verdict([row()], [arrival(), arrival(provider_id="p2", key="other")])
    assert judged.doubled
    assert judged.bad_ids == ["id1"]


def test_an_email_that_came_changed_is_wrong() -> None:
    assert verdict([row()], [arrival(digest=b"")]).wrong


def test_an_email_that_nobody_sent_is_wrong() -> None:
    assert verdict([row(), row(email_id="id2", token="t1-conflict")], [arrival()]).wrong


def test_two_ids_for_one_email_are_wrong() -> None:
    assert verdict([row(email_id="id2")], [arrival()]).wrong


def test_a_call_without_an_answer_is_told() -> None:
    assert verdict([], [], answered=False).unanswered


def test_an_email_given_up_although_the_provider_takes_it_is_told() -> None:
    assert verdict([row(status="FAILED", reason="POISON")], []).given_up


def test_a_refused_email_ends_as_a_dead_letter_and_nothing_else() -> None:
    dead = row(status="FAILED", reason="REJECTED")
    assert verdict([dead], [], refused=True).clean
    assert verdict([row()], [arrival()], refused=True).wrong
    assert verdict([replace(dead, reason="POISON")], [], refused=True).given_up
    assert verdict([replace(dead, reason="OUTCOME_UNKNOWN", may_have_been_accepted=True)], [], refused=True).clean


def test_a_dead_letter_that_says_certainly_not_sent_of_a_delivered_email_is_wrong() -> None:
    assert verdict([row(status="FAILED", reason="REJECTED")], [arrival()], refused=True).wrong


def test_recovery_is_counted_while_an_email_waits_and_can_be_delivered_only() -> None:
    kill = Happened(Fault(0.0, FaultKind.KILL, 1.0, "consumer0"), began=10.0, over=10.0)
    waited = recoveries([kill], [row(accepted_at=9.0, ended_at=13.0)], [9.5, 13.0])
    assert waited[FaultKind.KILL].longest_s == 3.0
    idle = recoveries([kill], [row(accepted_at=12.5, ended_at=13.0)], [9.5, 13.0])
    assert idle[FaultKind.KILL].longest_s == 0.5
    stopped = Happened(Fault(0.0, FaultKind.STOP_POSTGRES, 1.0), began=9.0, over=12.0)
    blocked = recoveries([kill, stopped], [row(accepted_at=9.0, ended_at=13.0)], [9.5, 13.0])
    assert blocked[FaultKind.KILL].longest_s == 1.0
    never = recoveries([kill], [row(accepted_at=12.5, ended_at=13.0)], [9.5])
    assert never[FaultKind.KILL].longest_s is None
