"""What happens to a system over time, one event after the other, and what its callers were told."""

from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from crash.points.checks import AtRest, check_at_rest
from crash.points.failures import FAILURES, REFUSALS, UNKNOWN
from crash.points.situations import in_hours, soon
from crash.points.system import System
from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_consumer.operations import Selection
from sred_email_core.errors import (
    EmailDispatchError,
    IdempotencyKeyReusedError,
    NotCancellableError,
    RetryLaterError,
)
from sred_email_ingress.dispatch import Acceptance
from support.crash_steps import Crashed, Fate, InProcess, Moment, Stopped
from support.in_process import CLAIM_IDLE_S, Consumer
from support.world import email_request

T = TypeVar("T")

_PATIENCE_S = 0.05
"""For what can't get on because an engine is away."""
_HOUR_S = 3600.0
_HORIZON_S = 82800.0


@dataclass(slots=True)
class Told:
    """What callers and operators know.

    Attributes:
        requests: Every request that was made, by subject.
        cancelled: Subjects of emails whose cancellation was answered with OK.
    """

    requests: dict[str, SendEmailRequest] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)


class History:
    """One ingress, two consumers (of which one has a single slot and so sends batches), and all that befalls them."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.told = Told()
        self.failures: set[str] = set()
        self._began_s = system.clock.ahead_s
        self.deaths = 0
        self._ingress = system.ingress()
        self._consumers = [system.consumer(), system.consumer(slots=1)]
        self._kept: dict[bytes | str, bytes] | None = None

    async def send(self, kinds: Sequence[str]) -> None:
        """Call SendEmail for several emails at once."""
        first = len(self.told.requests)
        requests = [_request(kind, f"{kind} {number}") for number, kind in enumerate(kinds, first)]
        self.told.requests.update({request.inline.subject: request for request in requests})
        await self._call(requests)

    async def send_again(self, subject: str) -> None:
        """Repeat a call, as callers do that got no answer, or were restarted."""
        await self._call([self.told.requests[subject]])

    async def send_other(self, subject: str) -> None:
        """Use a key again for another email."""
        other = SendEmailRequest()
        other.CopyFrom(self.told.requests[subject])
        other.inline.html = "<p>Something else</p>"
        if subject not in self.system.answered:
            return  # nobody knows what the key stands for
        told = await self._as_ingress(_outcome(self._ingress.parts.dispatch.send(other)))
        assert told is None or isinstance(told, IdempotencyKeyReusedError | RetryLaterError), f"{subject}: {told}"

    async def cancel(self, subject: str) -> None:
        """Call CancelEmail."""
        told = await self._as_ingress(_outcome(self._ingress.parts.cancellation.cancel(self.system.answered[subject])))
        assert (
            told is None
            or not isinstance(told, EmailDispatchError)
            or isinstance(told, NotCancellableError | RetryLaterError)
        ), f"{subject}: {told}"
        if told is not None and not isinstance(told, EmailDispatchError):
            self.told.cancelled.add(subject)

    async def reconcile(self) -> None:
        """The ingress compares Redis with the log."""
        await self._as_ingress(_outcome(self._ingress.reconciler.run_once()))

    async def work(self, number: int) -> None:
        """A consumer does one round of everything that it does."""
        consumer = self._consumers[number]
        if consumer.process.stopped:
            return
        try:
            await _tolerant(self.system.look_after(consumer))
            await _tolerant(self.system.take(consumer))
            await self._settle(consumer.process)
        except Stopped:
            pass
        except Crashed:
            self._restart(number)

    async def replay(self, number: int) -> None:
        """An operator replays all dead letters that may be."""
        consumer = self._consumers[number]
        if consumer.process.stopped:
            return
        everything = consumer.parts.operations.replay(Selection(), include_outcome_unknown=False, limit=0)
        try:
            await consumer.process.run(_outcome(everything))
            await self._settle(consumer.process)
        except Stopped:
            pass
        except Crashed:
            self._restart(number)

    async def shut_down(self, number: int) -> None:
        """A consumer is asked to stop, and another one is started."""
        consumer = self._consumers[number]
        if consumer.process.stopped:
            return
        with suppress(Stopped, Crashed):
            await consumer.process.run(_outcome(_leave(consumer)))
        await consumer.process.kill()
        self._restart(number, died=False)

    async def be_busy(self, rounds: int, seconds: float) -> None:
        """Both consumers work, again and again, with some time between."""
        for _ in range(rounds):
            await self.pass_time(seconds)
            for number in range(len(self._consumers)):
                await self.work(number)

    async def die_again_and_again(self, deaths: int, steps: int, moment: Moment) -> None:
        """A consumer dies of its work, and so does the one that is started after it."""
        for _ in range(deaths):
            self.doom(0, steps, moment, Fate.DIES)
            await self.work(0)
            await self.pass_time(CLAIM_IDLE_S + 1)

    async def kill(self, number: int) -> None:
        """SIGKILL of a consumer."""
        await self._consumers[number].process.kill()
        self._restart(number)

    def doom(self, number: int, steps: int, moment: Moment, fate: Fate) -> None:
        """Something happens to a consumer so many steps from now; to the ingress, if there is none of this number."""
        if number < len(self._consumers):
            self._consumers[number].process.expect(steps, moment, fate)
        elif fate is Fate.DIES:
            self._ingress.process.expect(steps, moment, fate)

    async def go_on(self, number: int) -> None:
        """SIGCONT of a consumer."""
        process = self._consumers[number].process
        process.go_on()
        try:
            await self._settle(process)
        except Stopped:
            pass
        except Crashed:
            self._restart(number)

    def break_engine(self, number: int, lost: int) -> None:
        """PostgreSQL or Redis loses so many answers, or, if that is 0, is away."""
        engine = self.system.engines[number]
        engine.away, engine.lost = not lost, lost

    async def mend_engines(self) -> None:
        """PostgreSQL and Redis are back; those that waited for them get on."""
        for engine in self.system.engines:
            engine.heal()
        for number, consumer in enumerate(self._consumers):
            if not consumer.process.stopped:
                await self.go_on(number)

    async def flush(self) -> None:
        """Redis forgets everything."""
        await self.system.redis.flushall()

    async def keep(self) -> None:
        """A replica of Redis has everything that there is now."""
        kept = {key: await self.system.redis.dump(key) for key in await self.system.redis.keys("*")}
        self._kept = {key: value for key, value in kept.items() if value is not None}

    async def fail_over(self) -> None:
        """The replica is promoted: what was written since is lost."""
        if self._kept is not None:
            await self.flush()
            for key, value in self._kept.items():
                await self.system.redis.restore(key, 0, value)
            await self.system.redis.delete(self.system.keys.epoch)  # it is another Redis, which its id would tell

    async def fail(self, failures: Sequence[tuple[str, int]]) -> None:
        """The provider fails in these ways, one after the other, each so many times."""
        self.failures.update(failure for failure, _ in failures)
        self.system.rules(*(replace(FAILURES[failure], times=times) for failure, times in failures))

    async def pass_time(self, seconds: float) -> None:
        """Time passes. Nobody is stopped for so long that the provider forgets what it was asked."""
        if any(consumer.process.stopped for consumer in self._consumers):
            seconds = min(seconds, _HOUR_S)
        alive = [c.process.name for c in self._consumers if not c.process.stopped]
        if alive and not self.system.connections.redis_engine.away:
            await self.system.pass_time(seconds, *alive)
        else:
            await self.system.time_passes(seconds)

    def check_now(self) -> None:
        """What must hold at any time."""
        twice = {s: ids for s, ids in self.system.provider.mailbox.by_subject().items() if len(ids) > 1}
        assert not twice, f"delivered more than once: {twice}"

    async def end(self) -> Counter[str]:
        """Everything heals, and comes to rest; what must hold then.

        Returns:
            How many emails ended how.
        """
        self.system.rules()
        for engine in self.system.engines:
            engine.heal()
        for number, consumer in enumerate(self._consumers):
            consumer.process.spare()
            await self.go_on(number)
        self._ingress.process.spare()
        await self.system.come_to_rest(self._consumers, self._ingress)
        ended = await check_at_rest(self.system)
        for subject, at_rest in ended.items():
            assert at_rest.status in self._may_end_as(subject), f"{subject} ended as {at_rest}"
            assert at_rest.reason is None or at_rest.reason in self._may_be_given_up_for(), f"{subject}: {at_rest}"
            assert subject not in self.told.cancelled or at_rest == AtRest("CANCELLED", 0, None), (
                f"{subject}: {at_rest}"
            )
        return Counter(at_rest.reason or at_rest.status for at_rest in ended.values())

    @property
    def _passed_s(self) -> float:
        return self.system.clock.ahead_s - self._began_s

    def _may_end_as(self, subject: str) -> set[str]:
        ends = {"SUCCESS", "FAILED", "CANCELLED"}
        return ends | {"EXPIRED"} if subject.startswith("expiring") and self._passed_s >= _HOUR_S else ends

    def _may_be_given_up_for(self) -> set[str]:
        reasons = set()
        if self.failures & REFUSALS:
            reasons |= {"REJECTED", "OUTCOME_UNKNOWN"}
        if self.failures & UNKNOWN:
            reasons.add("ATTEMPTS_EXHAUSTED")
        if self._passed_s >= _HORIZON_S or self.deaths:
            reasons |= {"OUTCOME_UNKNOWN", "POISON"}
        return reasons

    async def _call(self, requests: Sequence[SendEmailRequest]) -> None:
        """Call SendEmail at once for each, and note what was answered."""
        outcomes = await self._as_ingress(self._ingress.parts.dispatch.send_many(requests))
        for request, outcome in zip(requests, outcomes or (), strict=False):
            subject, known = request.inline.subject, self.system.answered
            if isinstance(outcome, Acceptance):
                assert known.setdefault(subject, outcome.email_id) == outcome.email_id, f"{subject} is two emails"
            else:
                assert isinstance(outcome, RetryLaterError), f"{subject}: {outcome}"

    async def _as_ingress(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What the ingress does; None if it died of it."""
        try:
            result = await self._ingress.process.run(work)
            await self._settle(self._ingress.process)
        except Crashed:
            self._ingress = self.system.ingress()
            return None
        return result

    async def _settle(self, process: InProcess) -> None:
        if any(engine.away for engine in self.system.engines):
            await process.settle(_PATIENCE_S)
        else:
            await process.settle()

    def _restart(self, number: int, *, died: bool = True) -> None:
        self.deaths += died
        self._consumers[number] = self.system.consumer(slots=1 if number else 4)


def _request(kind: str, subject: str) -> SendEmailRequest:
    if kind == "expiring":
        return email_request(subject, kind=email_pb2.EMAIL_KIND_PASSWORD_RESET)
    if kind == "attached":
        return email_request(subject, attachments=[email_pb2.Attachment(filename="a.txt", content=b"a")])
    if kind in {"soon", "later"}:
        return email_request(subject, send_at=soon() if kind == "soon" else in_hours())
    return email_request(subject, priority=email_pb2.PRIORITY_LOW if kind == "low" else email_pb2.PRIORITY_UNSPECIFIED)


async def _outcome(work: Coroutine[Any, Any, T]) -> T | EmailDispatchError:
    try:
        return await work
    except EmailDispatchError as e:
        return e


async def _tolerant(work: Coroutine[Any, Any, object]) -> None:
    """As the loops do: what can't be done now is done later."""
    await _outcome(work)


async def _leave(consumer: Consumer) -> None:
    await consumer.parts.consumer.drain()
    await consumer.parts.scripts.leave(consumer.process.name)
