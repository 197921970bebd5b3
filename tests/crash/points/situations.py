"""How a system gets into the situations in which a process may die."""

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from crash.points.scenario import Situation
from crash.points.system import System
from sred.email.v1 import email_pb2
from sred_email_core.queue.keys import Lane
from sred_email_local.sandbox.rules import Action, Rule
from support.crash_steps import Crashed, Fate, Moment, Point, Stopped
from support.in_process import CLAIM_IDLE_S, MAX_DELIVERIES

BATCH = ("one", "two", "three")

REFUSED = Rule(status=422, name="validation_error", message="The address is not valid.")
LIMITED = Rule(status=429, name="rate_limit_exceeded", message="Too many.", headers={"retry-after": "7"})
UNANSWERED = Rule(action=Action.ACCEPT_THEN_RESET)
ONE_REFUSED = Rule(action=Action.REJECT, subject=re.compile("two"), status=422, name="validation_error")
SLOW = Rule(action=Action.DELAY, delay_s=0.1)
DUE_S = 30
"""Longer than any pause between two attempts of a few."""
SOON_S = 50
NEAR_S = 7150
"""Until what is due in two hours is due soon."""
EXPIRED_S = 3700
"""Longer than a link to reset a password is good for."""
PAST_HORIZON_S = 86400


def soon() -> Timestamp:
    """A time within the hour."""
    return _ahead(timedelta(seconds=SOON_S))


def in_hours() -> Timestamp:
    """A time that Redis is not told of yet."""
    return _ahead(timedelta(hours=2))


def _ahead(ahead: timedelta) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + ahead)
    return stamp


async def accept(system: System) -> None:
    """An email waits."""
    await system.send(system.ingress(), "one")


async def accept_several(system: System) -> None:
    """Several emails wait."""
    ingress = system.ingress()
    for subject in BATCH:
        await system.send(ingress, subject)


async def accept_scheduled(system: System) -> None:
    """An email waits in the retry set for its time."""
    await system.send(system.ingress(), "one", send_at=soon())


async def accept_scheduled_for_later(system: System) -> None:
    """An email waits in PostgreSQL for its time."""
    await system.send(system.ingress(), "one", send_at=in_hours())


async def forgotten(system: System) -> None:
    """Emails that are scheduled, of which Redis was told or not yet, and which it knows nothing of."""
    ingress = system.ingress()
    await system.send(ingress, "later", send_at=in_hours())
    await system.pass_time(NEAR_S)
    await system.send(ingress, "soon", send_at=soon())
    await system.redis.flushall()


async def accept_expiring(system: System) -> None:
    """An email waits that expires in an hour."""
    await system.send(system.ingress(), "one", kind=email_pb2.EMAIL_KIND_PASSWORD_RESET)


def then(first: Situation, rule: Rule, *, times: int | None = None) -> Situation:
    """A situation, and a provider that fails from then on."""

    async def both(system: System) -> None:
        await first(system)
        system.rules(replace(rule, times=times))

    return both


def delivered(first: Situation, *, passing_s: float = DUE_S) -> Situation:
    """A situation after one delivery, and some time."""

    async def deliver(system: System) -> None:
        await first(system)
        await system.deliver(system.consumer(slots=1))
        await system.pass_time(passing_s)

    return deliver


def later(first: Situation, seconds: float) -> Situation:
    """A situation some time later."""

    async def wait(system: System) -> None:
        await first(system)
        await system.pass_time(seconds)

    return wait


def orphaned(step: str, *, bystander: bool = True) -> Situation:
    """An email whose consumer died after a step, long ago, and maybe nobody was there since then."""

    async def die(system: System) -> None:
        await accept(system)
        with suppress(Crashed):
            await system.deliver(system.consumer(Point(step, Moment.AFTER)))
        await (system.pass_time if bystander else system.time_passes)(CLAIM_IDLE_S + 1)

    return die


def deadly(first: Situation, *steps: str, deaths: int = MAX_DELIVERIES) -> Situation:
    """Emails whose owners died one after the other, each after one of these steps."""

    async def die_again_and_again(system: System) -> None:
        await first(system)
        for number in range(deaths):
            step = steps[min(number, len(steps) - 1)]
            consumer = system.consumer(Point(step, Moment.AFTER), slots=1)
            with suppress(Crashed):
                await system.look_after(consumer)
                while await system.deliver(consumer):
                    pass
            assert consumer.process.dead, f"nobody died of {step}: {consumer.process.steps}"
            await system.pass_time(CLAIM_IDLE_S + 1)
        await system.look_after(system.consumer())

    return die_again_and_again


def taken(first: Situation) -> Situation:
    """A consumer has taken what waits, and was stopped before it did anything."""

    async def stop(system: System) -> None:
        await first(system)
        consumer = system.consumer(Point("take.lua", Moment.AFTER, Fate.STOPS), slots=1)
        with suppress(Stopped):
            await system.deliver(consumer)
        assert consumer.process.stopped
        system.stopped.append(consumer)

    return stop


async def go_on(system: System) -> None:
    """Those that were stopped finish what they had begun."""
    for consumer in system.stopped:
        consumer.process.go_on()
        await consumer.process.settle()


async def postgres_is_back(system: System) -> None:
    """PostgreSQL answers again."""
    system.connections.postgres_engine.heal()


def buried(first: Situation, rule: Rule, *, attempts: int = 1) -> Situation:
    """What waits has become dead letters; the provider is well again."""

    async def bury(system: System) -> None:
        await first(system)
        system.rules(rule)
        consumer = system.consumer(slots=1)
        for _ in range(attempts):
            await system.deliver(consumer)
            await system.pass_time(DUE_S)
        system.rules()
        assert await system.pool.fetchval("SELECT count(*) FROM email_dead_letters"), "nothing was given up"

    return bury


async def one_of_each(system: System) -> None:
    """Emails that wait, are parked, are to be repeated, are dead letters; and a Redis that knows nothing of them."""
    ingress, consumer = system.ingress(), system.consumer(slots=1)
    await system.send(ingress, "repeated")
    system.rules(replace(UNANSWERED, times=1))
    await system.deliver(consumer)
    for subject in ("first of a batch", "second of a batch"):
        await system.send(ingress, subject)
    system.rules(replace(UNANSWERED, times=1))
    await system.deliver(consumer)
    await system.send(ingress, "rejected")
    system.rules(REFUSED)
    await system.deliver(consumer)
    await system.send(ingress, "parked")
    system.rules(LIMITED)
    await system.deliver(consumer)
    await system.send(ingress, "waiting")
    system.rules()
    await system.redis.flushall()
    await system.pass_time(CLAIM_IDLE_S + 1)


async def malformed(system: System) -> None:
    """An entry that is no email."""
    await system.redis.xadd(system.keys.stream(Lane.NORMAL), {"email_id": "no id", "message": b"\xff\x00"})
