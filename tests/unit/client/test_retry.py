"""When a call is repeated, and when not."""

from datetime import timedelta

import pytest

from sred_email_client import (
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
    RequestTooLargeError,
    RetryPolicy,
    UnavailableError,
)

POLICY = RetryPolicy(base_delay=timedelta(seconds=1), max_delay=timedelta(seconds=5), max_attempts=4)
LONG = timedelta(minutes=1)


@pytest.mark.parametrize(("attempt", "bound"), [(1, 1), (2, 2), (3, 4)])
def test_the_bound_of_the_pause_doubles_and_jitter_is_full(attempt: int, bound: float) -> None:
    error = UnavailableError("away")
    assert POLICY.pause(error, attempt=attempt, time_left=LONG, jitter=0) == timedelta(0)
    assert POLICY.pause(error, attempt=attempt, time_left=LONG, jitter=0.5) == timedelta(seconds=bound / 2)


def test_the_bound_has_a_bound() -> None:
    assert POLICY.backoff(1000, jitter=1) == timedelta(seconds=5)


def test_what_the_service_asks_for_wins_over_a_shorter_backoff() -> None:
    error = OverloadedError("full", retry_after=timedelta(seconds=7))
    assert POLICY.pause(error, attempt=1, time_left=LONG, jitter=0) == timedelta(seconds=7)
    assert POLICY.pause(error, attempt=1, time_left=LONG, jitter=0.5) == timedelta(seconds=7.5)


def test_no_pause_reaches_the_deadline() -> None:
    error = UnavailableError("away", retry_after=timedelta(seconds=7))
    assert POLICY.pause(error, attempt=1, time_left=timedelta(seconds=7), jitter=0) is None


def test_the_attempts_have_an_end() -> None:
    assert POLICY.pause(UnavailableError("away"), attempt=4, time_left=LONG, jitter=0) is None


@pytest.mark.parametrize(
    "error", [InvalidRequestError("bad"), RequestTooLargeError("large"), DeadlineExceededError("late")]
)
def test_what_a_repeat_does_not_mend_is_not_repeated(error: Exception) -> None:
    assert POLICY.pause(error, attempt=1, time_left=LONG, jitter=0) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"base_delay": timedelta(0)},
        {"base_delay": timedelta(seconds=2), "max_delay": timedelta(seconds=1)},
        {"max_attempts": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"base_delay|max_attempts"):
        RetryPolicy(**values)  # type: ignore[arg-type]
