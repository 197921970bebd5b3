"""What the console says about a state."""

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from sred.email.v1 import operations_service_pb2 as pb
from sred_email_operator.console.advice import advice_for


def stats(waiting: int, *silent_for_s: float) -> pb.GetQueueStatsResponse:
    seen = pb.GetQueueStatsResponse(dispatch_state=pb.DISPATCH_STATE_RUNNING, lanes=[pb.LaneStats(waiting=waiting)])
    for seconds in silent_for_s:
        idle = Duration()
        idle.FromTimedelta(timedelta(seconds=seconds))
        seen.consumers.add(name=f"silent for {seconds}", idle=idle)
    return seen


@pytest.mark.parametrize("silent_for_s", [(), (61,), (300, 61)])
def test_emails_that_wait_while_no_consumer_gives_a_sign_of_life_are_pointed_out(silent_for_s: tuple[float]) -> None:
    advice = advice_for(stats(1, *silent_for_s))
    assert advice is not None
    assert "no consumer" in advice.meaning
    assert advice.entry == "Lag"
    assert advice_for(stats(0, *silent_for_s)) is None


def test_one_consumer_that_was_heard_of_is_enough() -> None:
    assert advice_for(stats(1, 300, 2)) is None
