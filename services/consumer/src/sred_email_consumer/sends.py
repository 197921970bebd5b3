"""A send on its way: its emails, where they came from, and the lease on it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from sred_email_core.email_send_log.records import Claim, SendShape
from sred_email_core.errors import RetryLaterError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.codec import QueuedEmail

log = structlog.get_logger(__name__)
T = TypeVar("T")

_STALE_S = 5.0
"""After which a turn that was not used is void; longer than a claim takes while PostgreSQL is well."""


@dataclass(frozen=True, slots=True)
class Passenger:
    """An email of a send, and where it came from.

    Attributes:
        email: With its content.
        entry_id: The stream entry it was taken from; empty: it is repeated within its send.
        left_out: Recipients that don't get it, by their places in to, cc and bcc taken together; fixed with the send.
    """

    email: QueuedEmail
    entry_id: str = ""
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedSend:
    """A send that this process may post.

    Attributes:
        claim: The lease on it.
        claimed_at_s: When the lease was asked for, on the lease clock.
        passengers: Its emails, in order.
        shape: What shaped its body.
        body: Its bytes.
    """

    claim: Claim
    claimed_at_s: float
    passengers: tuple[Passenger, ...]
    shape: SendShape
    body: bytes

    @property
    def first_email_id(self) -> str:
        """The send's name in the retry set."""
        return self.passengers[0].email.email_id


@dataclass(frozen=True, slots=True)
class Turn:
    """When a request may go out.

    Attributes:
        not_before_s: On the monotonic clock.
        used: Called when it goes out.
    """

    not_before_s: float = 0.0
    used: Callable[[], None] = lambda: None

    def is_stale(self) -> bool:
        """Whether its time is long over: the limiter does not know of it any more."""
        return 0 < self.not_before_s < time.monotonic() - _STALE_S

    async def come(self) -> None:
        """Wait until it may."""
        wait_s = self.not_before_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class StoppingError(Exception):
    """The process is asked to stop, and what was to be begun was not: it is to be handed back."""


def lease_clock() -> float:
    """Seconds on a clock that goes on while the process, or its machine, is stopped."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


async def persist(operation: Callable[[], Awaitable[T]], stopping: asyncio.Event | None = None) -> T:
    """Carry out a step whose repetition is safe, however long PostgreSQL or Redis is away.

    Args:
        operation: The step.
        stopping: Where the step comes before a request: once it is set, the step is not tried again.

    Raises:
        StoppingError: It was set, and the step had not succeeded.
    """
    delay_s = 0.05
    while True:
        try:
            return await operation()
        except RetryLaterError as e:
            log.debug("step_postponed", reason=str(e))
        pause_s = delay_s * (0.5 + random.random())  # noqa: S311 - spreads load, keeps no secret
        if stopping is None:
            await asyncio.sleep(pause_s)
        elif await wait_for(stopping, pause_s):
            raise StoppingError
        delay_s = min(delay_s * 2, 1.0)
