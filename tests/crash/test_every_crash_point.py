"""At each step of a process' I/O it may die, or not hear the answer: nothing is lost, doubled or stuck."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from redis.asyncio import Redis

from crash.points.every_point import crash_at_every_point, crash_twice, lose_every_answer
from crash.points.scenario import Scenario
from crash.points.scenarios import SCENARIOS, TWICE
from crash.points.system import System
from sred_email_local.sandbox.server import SandboxServer
from support.crash_steps import tasks_belong_to_processes
from support.time_passes import Clock, take_over_time


@pytest.fixture
async def system(
    pool: asyncpg.Pool, redis: Redis, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[System]:
    clock = Clock()
    take_over_time(monkeypatch, clock)
    with tasks_belong_to_processes():
        async with System.open(pool, redis, sandbox, clock) as opened:
            yield opened


@pytest.fixture(scope="module")
def points() -> Iterator[list[int]]:
    found: list[int] = []
    yield found
    print(f"\n{sum(found)} points in all")  # noqa: T201 - the number is the result


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_wherever_a_process_dies_each_email_ends_and_is_delivered_once(
    system: System, scenario: Scenario, points: list[int]
) -> None:
    steps = await crash_at_every_point(system, scenario)
    points.append(2 * len(steps))
    print(f"\n{scenario.name}: {2 * len(steps)} points")  # noqa: T201 - the number is the result
    assert steps


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_whatever_answer_is_lost_each_email_ends_and_is_delivered_once(
    system: System, scenario: Scenario, points: list[int]
) -> None:
    answers = await lose_every_answer(system, scenario)
    points.append(answers)
    print(f"\n{scenario.name}: {answers} answers")  # noqa: T201 - the number is the result
    assert answers


@pytest.mark.parametrize("scenario", TWICE, ids=lambda scenario: scenario.name)
async def test_a_second_crash_on_the_heels_of_the_first_does_no_harm(
    system: System, scenario: Scenario, points: list[int]
) -> None:
    pairs = await crash_twice(system, scenario)
    points.append(pairs)
    print(f"\n{scenario.name}: {pairs} pairs of points")  # noqa: T201 - the number is the result
    assert pairs
