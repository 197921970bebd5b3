"""The limit of requests per second, in fixed windows.

Source: https://resend.com/changelog/api-rate-limit for the headers
"""

import math
from collections.abc import Callable

from sred_email_local.sandbox.refusal import Refusal


class RateLimit:
    """A limit on requests in each second of the clock.

    Args:
        per_second: Requests; 0 for no limit.
        clock: Seconds.
    """

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self.per_second = per_second
        self._clock = clock
        self._window = -1
        self._used = 0

    def take(self) -> dict[str, str]:
        """Count one request.

        Returns:
            The headers that say what is left; none without a limit.

        Raises:
            Refusal: The window has none left.
        """
        if self.per_second == 0:
            return {}
        now = self._clock()
        window = math.floor(now)
        if window != self._window:
            self._window, self._used = window, 0
        self._used += 1
        reset = str(math.ceil(window + 1 - now))
        headers = {
            "ratelimit-limit": str(self.per_second),
            "ratelimit-remaining": str(max(0, self.per_second - self._used)),
            "ratelimit-reset": reset,
        }
        if self._used > self.per_second:
            message = f"Too many requests. You can only make {self.per_second} requests per second."
            raise Refusal(429, "rate_limit_exceeded", message, {**headers, "retry-after": reset})
        return headers
