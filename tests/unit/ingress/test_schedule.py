"""When emails may be scheduled for."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_ingress.schedule import schedule_objections, send_at_of

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MONTH = timedelta(days=30)


def fields(send_at: datetime | None, expire_at: datetime | None = None) -> list[str]:
    return [objection.field for objection in schedule_objections(send_at, expire_at, NOW)]


@pytest.mark.parametrize("send_at", [None, datetime(1, 1, 1, tzinfo=UTC), NOW, NOW + TICK, NOW + MONTH])
def test_at_once_in_the_past_and_up_to_30_days_ahead_are_fine(send_at: datetime | None) -> None:
    assert fields(send_at) == []


@pytest.mark.parametrize("send_at", [NOW + MONTH + TICK, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)])
def test_more_than_30_days_ahead_is_objected_to(send_at: datetime) -> None:
    assert fields(send_at) == ["send_at"]


@pytest.mark.parametrize("expire_at", [NOW + TICK, NOW + timedelta(hours=1)])
def test_an_email_must_expire_after_it_is_sent(expire_at: datetime) -> None:
    assert fields(NOW + timedelta(hours=1), expire_at) == ["expire_at"]
    assert fields(expire_at - TICK, expire_at) == []


def test_a_time_that_has_passed_means_now_and_an_expiry_that_has_is_another_objection() -> None:
    assert fields(NOW - TICK, NOW - MONTH) == []
    assert fields(NOW + TICK, NOW) == []


def test_both_faults_are_named() -> None:
    assert fields(NOW + 2 * MONTH, NOW + MONTH) == ["send_at", "expire_at"]


@pytest.mark.parametrize("seconds", [-62_135_596_800, 0, 253_402_300_799])
def test_every_time_that_validation_lets_pass_can_be_read(seconds: int) -> None:
    assert send_at_of(SendEmailRequest(send_at=Timestamp(seconds=seconds, nanos=999_999_999))) is not None
    assert send_at_of(SendEmailRequest()) is None
