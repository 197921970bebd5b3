"""What requests tell about the provider, for every replica to go by."""

import asyncio
import functools
import itertools
import time
from collections.abc import Awaitable, Iterator
from datetime import timedelta

import structlog

from sred_email_consumer.outcome import Accepted, Failure, FailureKind
from sred_email_consumer.retry_policy import Hold, RetryPolicy
from sred_email_consumer.sends import ClaimedSend, Turn, persist
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.logs import mask_addresses
from sred_email_core.queue.dispatch_scripts import DispatchScripts, Stop
from sred_email_core.queue.scripts import DispatchWeather, Taken

log = structlog.get_logger(__name__)

REFUSALS_IN_A_ROW = 20
"""Of several kinds and sender domains, all refused with one name: that is no email's fault."""
_LONGEST_DOMAIN_WAIT = timedelta(minutes=5)
"""Until one email of a refused domain is tried again, whatever the provider asks: somebody may have verified it."""


class ProviderWeather:
    """Tells Redis what came of requests, and remembers what Redis said of it last.

    The state itself is in Redis alone, so that replicas can't disagree. What is remembered here only saves calls.
    """

    def __init__(self, scripts: DispatchScripts, policy: RetryPolicy, *, breaker_failures: int) -> None:
        """Prepare.

        Args:
            scripts: Where the state is.
            policy: Knows how long to wait.
            breaker_failures: Sends that fail one after the other, over all replicas, before delivery stops.
        """
        self._scripts = scripts
        self._policy = policy
        self._breaker_failures = breaker_failures
        self._now = DispatchWeather()
        self._probes: dict[str, int] = {}
        self._accepted = False
        self._telling: set[asyncio.Task[None]] = set()

    def seen(self, taken: Taken) -> None:
        """Remember what take said."""
        if taken.weather.state != self._now.state:
            reason = mask_addresses(taken.weather.reason)
            log.warning("dispatch_state", state=taken.weather.state, reason=reason, before=self._now.state)
        self._now = taken.weather

    def fetch_accepted(self) -> bool:
        """Whether a request was accepted since this was asked last."""
        accepted, self._accepted = self._accepted, False
        return accepted

    def keep_accepted(self) -> None:
        """It could not be told: it is told the next time."""
        self._accepted = True

    def probe_begins(self, number: int, first_email_id: str) -> None:
        """A request goes out to see whether delivery can go on."""
        self._probes[first_email_id] = number
        log.info("probe", email_id=first_email_id, state=self._now.state)

    async def probe_ends(self, number: int, first_email_id: str) -> None:
        """It is over; if it told nothing about the provider, another email is tried soon.

        Raises:
            QueueUnavailableError: Redis does not answer: the probe is given up after a while.
        """
        self._probes.pop(first_email_id, None)
        await self._scripts.end_probe(number, accepted=False, retry_after=self._policy.soon)

    def turns_of(self, taken: Taken) -> Iterator[Turn]:
        """The turn of each repeat, then of each request."""
        now_s = time.monotonic()
        if not taken.grants:
            yield from itertools.repeat(Turn())
        for grant in taken.grants:
            yield Turn(now_s + grant.ready_in.total_seconds(), functools.partial(self._use, grant.number))

    def _use(self, grant: int) -> None:
        task = asyncio.create_task(self._tell_use(grant))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_use(self, grant: int) -> None:
        try:
            await self._scripts.use_grant(grant)
        except QueueUnavailableError as e:
            log.debug("grant_not_used", reason=str(e))  # it counts from when it was granted

    def learn(self, answer: Accepted | Failure) -> Awaitable[object] | None:
        """Keep the limit that the provider named; None: it is known."""
        if isinstance(answer, Failure) and not answer.answered:
            return None
        if self._now.limit_known and answer.provider_limit in (None, self._now.provider_limit):
            return None
        return self._learn(answer.provider_limit)

    async def _learn(self, provider_limit: float | None) -> None:
        try:
            await self._scripts.learn_limit(provider_limit)
        except QueueUnavailableError as e:
            log.debug("limit_not_kept", reason=str(e))

    def accepted(self, send: ClaimedSend, answer: Accepted) -> Awaitable[object] | None:
        """The provider took a request; None: there is nobody to be told.

        One that took none of its emails says nothing.
        """
        if not answer.message_ids:
            return None
        self._accepted = True
        probe = self._probe_of(send)
        domains = self._now.domains
        if domains:
            domains &= {send.passengers[n].email.sender_domain for n in answer.message_ids}
        return self._all_is_well(send, probe, domains) if probe or domains else None

    async def _all_is_well(self, send: ClaimedSend, probe: int, domains: frozenset[str]) -> None:
        if probe and await persist(lambda: self._scripts.end_probe(probe, accepted=True)):
            log.warning("delivery_goes_on", email_id=send.first_email_id)
        if domains:
            await persist(lambda: self._scripts.free_domains(domains))

    async def failed(self, send: ClaimedSend, failure: Failure) -> bool:
        """A request failed; whether many do, so that it is not for this send to answer for.

        Told before it is recorded. Where Redis does not answer, what it said last is taken for true.
        """
        if failure.kind not in (FailureKind.OUTCOME_UNKNOWN, FailureKind.NOT_SENT):
            return False
        stop = Stop("PROVIDER_DOWN", mask_addresses(failure.error), self._policy.probe_interval)
        # A connection that is refused is never one send's fault: each try counts. Else different sends do.
        tried = send.claim.fence if failure.kind is FailureKind.NOT_SENT else ""
        try:
            return await self._scripts.stop_delivery(
                stop,
                failed=f"{send.first_email_id} {tried}",
                threshold=self._breaker_failures,
                first_email_id=send.first_email_id,
                probe=self._probe_of(send),
            )
        except QueueUnavailableError as e:
            log.debug("failure_not_told", reason=str(e))
            return self._now.state == "PROVIDER_DOWN"

    async def stop(self, first_email_id: str, hold: Hold) -> None:
        """Hold or stop delivery for every replica.

        Args:
            first_email_id: Of the send, or the work, that met the cause.
            hold: What it is.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        reason = mask_addresses(hold.reason)
        if hold.state == "RUNNING":
            await self._scripts.hold(reason, hold.duration)
            return
        await self._scripts.stop_delivery(
            Stop(hold.state, reason, hold.duration, hold.refused_name),
            failed=first_email_id,
            threshold=1,
            first_email_id=first_email_id,
            probe=self._probes.get(first_email_id, 0),
        )
        log.warning("delivery_stopped", state=hold.state, reason=reason, seconds=hold.duration.total_seconds())

    @property
    def cause(self) -> str:
        """Name of what stopped delivery, as take told it last: refusals, or a key; empty: another cause, or none."""
        return self._now.refused_name

    def stopped_by(self, send: ClaimedSend) -> str:
        """Name of the refusals that stopped delivery, where this request is to find out whether they go on."""
        return self._now.refused_name if self._probe_of(send) else ""

    async def refused(self, send: ClaimedSend, failure: Failure) -> None:
        """A lone email was refused for its own sake, or for its sender's.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        email = send.passengers[0].email
        if failure.kind is FailureKind.DOMAIN_REFUSED:
            if email.sender_domain:
                wait = max(self._policy.probe_interval, min(failure.retry_after or timedelta(), _LONGEST_DOMAIN_WAIT))
                await self._scripts.park_domain(email.sender_domain, mask_addresses(failure.error), wait)
                log.warning("domain_parked", domain=email.sender_domain, reason=mask_addresses(failure.error))
        else:
            in_a_row = await self._scripts.count_refusal(failure.name, kind=email.kind, domain=email.sender_domain)
            if in_a_row >= REFUSALS_IN_A_ROW:
                await self.stop(send.first_email_id, self._policy.stop_for_refusals(failure))
        if probe := self._probe_of(send):
            await self._scripts.end_probe(probe, accepted=False)  # it says nothing about the rest: the next, at once

    def _probe_of(self, send: ClaimedSend) -> int:
        return self._probes.get(send.first_email_id, 0)
