"""Health: what is asked, what is told, and that changes are logged once."""

import asyncio

import pytest
from structlog.testing import capture_logs

from sred_email_core.health import Dependency, HealthWatch


class Check:
    """Answers, or raises what it is told to."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.problem is not None:
            raise self.problem


class Watched:
    """A health watch over fake checks."""

    def __init__(self, *dependencies: Dependency) -> None:
        self.told: list[bool] = []
        self.watch = HealthWatch(dependencies, tell=self._hear, interval_s=3600)

    def _hear(self, *, ready: bool) -> None:
        self.told.append(ready)


async def test_before_the_first_check_nothing_is_ready() -> None:
    watch = Watched(Dependency("PostgreSQL", Check())).watch
    assert not watch.ready
    assert watch.problems == {"PostgreSQL": "not asked yet"}


async def test_a_service_whose_dependencies_answer_is_ready() -> None:
    watched = Watched(Dependency("PostgreSQL", Check()), Dependency("Redis", Check(), essential=False))
    await watched.watch.run_once()
    assert watched.watch.ready
    assert watched.watch.problems == {}
    assert watched.told[-1]


async def test_without_an_essential_dependency_a_service_is_not_ready() -> None:
    watched = Watched(Dependency("PostgreSQL", Check(OSError("refused"))), Dependency("Redis", Check()))
    await watched.watch.run_once()
    assert not watched.watch.ready
    assert watched.watch.problems == {"PostgreSQL": "refused"}
    assert not watched.told[-1]


async def test_without_another_dependency_it_is_ready_and_says_what_is_missing() -> None:
    watched = Watched(Dependency("PostgreSQL", Check()), Dependency("Redis", Check(OSError("away")), essential=False))
    await watched.watch.run_once()
    assert watched.watch.ready
    assert watched.watch.problems == {"Redis": "away"}
    assert watched.told[-1]


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (OSError("refused"), "refused"),
        (TimeoutError(), "no answer in time"),
        (ValueError(), "ValueError"),
        (RuntimeError("the schema lacks 0001"), "the schema lacks 0001"),
    ],
)
async def test_a_problem_is_told_in_words(problem: Exception, told: str) -> None:
    watch = Watched(Dependency("PostgreSQL", Check(problem))).watch
    await watch.run_once()
    assert watch.problems == {"PostgreSQL": told}


async def test_a_change_is_logged_once() -> None:
    check = Check()
    watch = Watched(Dependency("Redis", check)).watch
    with capture_logs() as lines:
        for problem in (None, None, OSError("a"), OSError("b"), OSError("a"), None, None):
            check.problem = problem
            await watch.run_once()
    assert [line["event"] for line in lines] == [
        "dependency_available",
        "dependency_unavailable",
        "dependency_available",
    ]
    assert all(line["dependency"] == "Redis" for line in lines)
    assert lines[1]["reason"] == "a"
    assert lines[1]["log_level"] == "warning"


async def test_a_dependency_that_is_away_from_the_start_is_logged_once() -> None:
    watch = Watched(Dependency("Redis", Check(OSError("refused")))).watch
    with capture_logs() as lines:
        for _ in range(3):
            await watch.run_once()
    assert [line["event"] for line in lines] == ["dependency_unavailable"]


async def test_the_newest_reason_is_told_even_when_it_is_not_logged() -> None:
    check = Check(OSError("first"))
    watch = Watched(Dependency("Redis", check)).watch
    await watch.run_once()
    check.problem = OSError("second")
    await watch.run_once()
    assert watch.problems == {"Redis": "second"}


async def test_a_dependency_that_comes_back_makes_the_service_ready_again() -> None:
    check = Check(OSError("away"))
    watched = Watched(Dependency("PostgreSQL", check))
    await watched.watch.run_once()
    check.problem = None
    await watched.watch.run_once()
    assert watched.watch.ready
    assert watched.told[-1]


async def test_one_dependency_that_hangs_does_not_keep_the_others_from_being_asked() -> None:
    gate, check = asyncio.Event(), Check()
    watch = Watched(Dependency("PostgreSQL", gate.wait), Dependency("Redis", check)).watch
    asking = asyncio.create_task(watch.run_once())
    while not check.asked:
        await asyncio.sleep(0)
    assert not asking.done()
    gate.set()
    await asking
    assert watch.ready


async def test_a_service_that_is_asked_to_stop_is_not_ready_any_more() -> None:
    check, stop = Check(), asyncio.Event()
    watched = Watched(Dependency("PostgreSQL", check))
    running = asyncio.create_task(watched.watch.run(stop))
    while not watched.watch.ready:
        await asyncio.sleep(0)
    stop.set()
    await running
    assert check.asked == 1
    assert not watched.watch.ready
    assert watched.watch.problems == {"shutdown": "draining"}
    assert not watched.told[-1]
