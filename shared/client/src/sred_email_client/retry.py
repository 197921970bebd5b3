"""When a failed call is repeated. Decisions only: no clock, no chance, no waiting.

Not gRPC's own retryPolicy: that can neither wait as RetryInfo asks, nor tell a service that is full from a message that
is too large, for which gRPC uses the same code.
"""

from dataclasses import dataclass
from datetime import timedelta

from sred_email_client.errors import EmailError, OverloadedError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, within the deadline of the call.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        base_delay: Bound of the first pause; it doubles with each attempt.
        max_delay: The largest bound.
        max_attempts: Attempts in all; 1: never repeat. The deadline ends them too.
    """

    base_delay: timedelta = timedelta(milliseconds=100)
    max_delay: timedelta = timedelta(seconds=5)
    max_attempts: int = 10

    def __post_init__(self) -> None:
        if self.base_delay <= timedelta(0) or self.max_delay < self.base_delay:
            raise ValueError("base_delay must be positive and max_delay not shorter")
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be 1 or more; 1 never repeats")

    def pause(self, error: EmailError, *, attempt: int, time_left: timedelta, jitter: float) -> timedelta | None:
        """Choose between another attempt and giving up.

        Args:
            error: What the attempt ended with.
            attempt: Attempts made so far, counting this one; 1 or more.
            time_left: Until the deadline.
            jitter: Uniform draw from [0, 1), made by the caller.

        Returns:
            How long to wait before the next attempt, never less than the service asks for; None: give up, since
            repeating does not help or the deadline would pass meanwhile.
        """
        if not is_retryable(error) or attempt >= self.max_attempts:
            return None
        pause = self.backoff(attempt, jitter=jitter)
        if isinstance(error, UnavailableError | OverloadedError) and error.retry_after is not None:
            pause += error.retry_after
        return pause if pause < time_left else None

    def backoff(self, attempt: int, *, jitter: float) -> timedelta:
        """The pause after so many attempts, as far as nobody asks for more."""
        doubled: int = 1 << min(attempt - 1, 30)
        return jitter * min(self.max_delay, self.base_delay * doubled)


def is_retryable(error: EmailError) -> bool:
    """Tell whether the same request may succeed a moment later."""
    return isinstance(error, UnavailableError | OverloadedError)
