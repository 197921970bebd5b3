"""What processes do when they die."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from crash.points.scenario import Dying
from crash.points.situations import in_hours, soon
from crash.points.system import System
from sred_email_consumer.operations import Selection
from sred_email_core.errors import NotCancellableError
from support.in_process import Consumer
from support.world import until


async def accept_one(system: System, dying: Dying) -> None:
    """An ingress accepts an email."""
    await system.send(dying.start_ingress(), "one")


async def schedule_one(system: System, dying: Dying) -> None:
    """An ingress accepts an email that is due within the hour."""
    await system.send(dying.start_ingress(), "one", send_at=soon())


async def schedule_one_for_later(system: System, dying: Dying) -> None:
    """An ingress accepts an email that is due later than that."""
    await system.send(dying.start_ingress(), "one", send_at=in_hours())


async def deliver(system: System, dying: Dying) -> None:
    """A consumer delivers what waits, each email alone."""
    await system.deliver(dying.start_consumer())


async def deliver_batch(system: System, dying: Dying) -> None:
    """A consumer delivers what waits in one request, and what becomes of it."""
    consumer = dying.start_consumer(slots=1)
    while await system.deliver(consumer):
        pass


async def promote(system: System, dying: Dying) -> None:
    """A consumer promotes what has come due, and delivers it."""
    consumer = dying.start_consumer()
    await consumer.process.run(consumer.parts.promoter.run_once())
    await system.deliver(consumer)


async def reclaim(system: System, dying: Dying) -> None:
    """A consumer reclaims what a dead one had, and delivers it."""
    consumer = dying.start_consumer()
    await consumer.process.run(consumer.parts.reclaimer.run_once())
    while await system.deliver(consumer):
        pass


async def reclaim_as_the_only_one(system: System, dying: Dying) -> None:
    """A consumer finds that nobody was heard for long, gives the others a moment, and reclaims what they had."""
    consumer = dying.start_consumer()
    await system.look_after(consumer)
    await system.pass_time(11, consumer.process.name)
    await system.work(consumer)


async def replay(_: System, dying: Dying) -> None:
    """An operator replays all dead letters."""
    consumer = dying.start_consumer()
    everything = consumer.parts.operations.replay(Selection(), include_outcome_unknown=False, limit=0)
    await consumer.process.run(everything)
    await consumer.process.settle()


async def reconcile(system: System, dying: Dying) -> None:
    """An ingress compares Redis with the log."""
    ingress = dying.start_ingress()
    await system.reconcile(ingress)
    await ingress.process.settle()


async def cancel(system: System, dying: Dying) -> None:
    """An ingress cancels an email."""
    await system.cancel(dying.start_ingress(), "one")


async def cancel_in_vain(system: System, dying: Dying) -> None:
    """An ingress does not cancel an email of which something may have been sent."""
    try:
        await system.cancel(dying.start_ingress(), "one")
    except NotCancellableError:
        return
    raise AssertionError("an email was cancelled that may have been accepted")


async def shut_down_before_the_claim(system: System, dying: Dying) -> None:
    """A consumer has taken work and can't claim it, because PostgreSQL is away; it is asked to stop."""
    consumer = dying.start_consumer()
    system.connections.postgres_engine.away = True
    await system.take(consumer)
    await _shut_down(consumer)


async def shut_down_before_the_record(system: System, dying: Dying) -> None:
    """A consumer has posted and can't record the answer, because PostgreSQL went away; it is asked to stop."""
    consumer = dying.start_consumer(slots=1)
    await system.take(consumer)
    await consumer.process.run(until(_posted(system), "a request was made"))
    system.connections.postgres_engine.away = True
    await _shut_down(consumer)


async def cancel_again(system: System) -> None:
    """The caller who got no answer calls again."""
    with suppress(NotCancellableError):
        await system.cancel(system.ingress(), "one")


async def _shut_down(consumer: Consumer) -> None:
    await consumer.process.run(consumer.parts.consumer.drain())
    await consumer.process.run(consumer.parts.scripts.leave(consumer.process.name))
    await consumer.process.settle()


def _posted(system: System) -> Callable[[], Awaitable[bool]]:
    async def posted() -> bool:
        return bool(system.provider.requests)

    return posted
