"""Runs a scenario once for each point at which something can happen to its process."""

import random
from collections.abc import Iterable, Sequence
from contextlib import suppress

from structlog.testing import capture_logs

from crash.points.checks import check_at_rest, check_logs
from crash.points.scenario import Dying, Scenario
from crash.points.system import System
from sred_email_core.errors import RetryLaterError
from support.crash_steps import Crashed, Fate, Moment, Point
from support.in_process import CLAIM_IDLE_S, Consumer

_STEPS_OF_A_RECOVERY = 14


async def crash_at_every_point(system: System, scenario: Scenario) -> list[str]:
    """Let the process die before and after each of its steps.

    Returns:
        The steps that it takes when it is left alone.

    Raises:
        AssertionError: After one of the crashes a promise was broken; every such crash is named.
    """
    steps = await run(system, scenario)
    points = [Point(number, moment) for number in range(1, len(steps) + 1) for moment in Moment]
    await _run_all(system, scenario, steps, ((point, None) for point in points))
    return steps


async def lose_every_answer(system: System, scenario: Scenario) -> int:
    """Let the process live, and lose the answer to one of its steps.

    Returns:
        How many steps there are whose answer can be lost. What the provider does not answer is told by its rules.

    Raises:
        AssertionError: After one of them a promise was broken; every such step is named.
    """
    steps = await run(system, scenario)
    points = [
        Point(number, Moment.AFTER, Fate.HEARS_AN_ERROR)
        for number, step in enumerate(steps, 1)
        if not step.startswith("POST")
    ]
    await _run_all(system, scenario, steps, ((point, None) for point in points))
    return len(points)


async def crash_twice(system: System, scenario: Scenario) -> int:
    """Let the process die at each point, and the consumer that comes after it at one drawn by lot.

    Returns:
        How many points there are for the first crash.

    Raises:
        AssertionError: After one of these pairs a promise was broken; every such pair is named.
    """
    lot = random.Random(scenario.name)  # noqa: S311 - the same ones each time
    steps = await run(system, scenario)
    points = [Point(number, moment) for number in range(1, len(steps) + 1) for moment in Moment]
    pairs = [(p, Point(lot.randint(1, _STEPS_OF_A_RECOVERY), lot.choice(list(Moment)))) for p in points]
    await _run_all(system, scenario, steps, pairs)
    return len(points)


async def run(system: System, scenario: Scenario, point: Point | None = None, second: Point | None = None) -> list[str]:
    """Run a scenario once.

    Args:
        system: Where.
        scenario: What.
        point: Where something happens to its process; None: nothing does.
        second: Where the consumer dies that goes on after its crash; None: it does not.

    Returns:
        The steps of its process.

    Raises:
        AssertionError: A promise was broken.
    """
    with capture_logs() as logs:
        await system.begin_anew()
        await scenario.before(system)
        dying = Dying(system, point)
        with suppress(Crashed, RetryLaterError):
            await scenario.during(system, dying)
        survivors = await _survivors(dying, point)
        await scenario.after(system)
        places_left = second is not None and await _recover_and_die(system, second)
        unaided = not scenario.reconciled and (point is None or not (scenario.mended or places_left))
        await system.come_to_rest(survivors, unaided=unaided)
    ended = await check_at_rest(system)
    for subject, ends in scenario.ends.items():
        if subject not in ended and subject in scenario.optional and subject not in system.answered:
            continue
        allowed = ends[:1] if point is None else ends
        assert ended.get(subject) in allowed, f"{subject} ended as {ended.get(subject)}"
    check_logs(logs)
    assert dying.process is not None
    return dying.process.steps


async def _survivors(dying: Dying, point: Point | None) -> list[Consumer]:
    """The consumer to which something happened, if it lives on; whoever else it was ends."""
    assert dying.process is not None
    if point is None or point.fate is Fate.DIES or dying.consumer is None:
        await dying.process.kill()
        return []
    dying.process.spare()  # where it took fewer steps than before
    await dying.process.settle()
    return [dying.consumer]


async def _recover_and_die(system: System, point: Point) -> bool:
    """Let another consumer go on, and die.

    Returns:
        Whether it died between the record of a repeat and the end of its places: only the reconciler knows of those of
        a batch, whose send is no more.
    """
    await system.pass_time(CLAIM_IDLE_S + 1)
    consumer = system.consumer(point, slots=1)
    with suppress(Crashed):
        await system.look_after(consumer)
        while await system.deliver(consumer):
            pass
    await consumer.process.kill()
    recorded = point.moment is Moment.AFTER and consumer.process.steps[-1] == "record_answers.sql"
    return recorded or (point.moment is Moment.BEFORE and consumer.process.steps[-1] == "finish_sends.lua")


async def _run_all(
    system: System, scenario: Scenario, steps: Sequence[str], pairs: Iterable[tuple[Point, Point | None]]
) -> None:
    faults = []
    for point, second in pairs:
        try:
            await run(system, scenario, point, second)
        except (AssertionError, TimeoutError) as e:
            number = int(point.step)
            where = f"{point.fate.value} {point.moment} step {number} of {len(steps)}, {steps[number - 1]}"
            again = f", the next at {second.moment} its step {second.step}" if second is not None else ""
            faults.append(f"{scenario.name}: the process {where}{again}:\n{e!r}")
    assert not faults, "\n\n".join(faults)
