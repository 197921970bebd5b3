"""Whatever happens in whatever order: each accepted email ends, and reaches its recipient once at most.

SRED_EMAIL_TEST_DEPTH=deep looks further, each time elsewhere.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from crash.points.checks import check_logs
from crash.points.failures import FAILURES
from crash.points.history import History
from crash.points.system import System
from sred_email_core.postgres import open_pool
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer
from support.crash_steps import Fate, Moment, tasks_belong_to_processes
from support.in_process import CLAIM_IDLE_S
from support.time_passes import Clock, take_over_time

T = TypeVar("T")

DEEP = os.environ.get("SRED_EMAIL_TEST_DEPTH") == "deep"
EXAMPLES, STEPS = (2000, 60) if DEEP else (75, 30)
MOST_EMAILS = 12
"""In a history: a few to which much happens."""

_consumers = st.integers(0, 1)
_moments = st.sampled_from(list(Moment))
_kinds = st.sampled_from(["plain", "plain", "low", "expiring", "attached", "soon", "later"])
_failures = st.lists(st.tuples(st.sampled_from(list(FAILURES)), st.integers(1, 3)), min_size=1, max_size=3)
_which = st.integers(0, 99)
_steps = st.integers(1, 9)


class Histories(RuleBasedStateMachine):
    """What may happen, one event a step."""

    def __init__(self, loop: asyncio.Runner, system: System, seen: Counter[str]) -> None:
        super().__init__()
        self._seen = seen
        self._loop = loop
        self._system = system
        self._captured = capture_logs()
        self._logs = self._captured.__enter__()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    @initialize(kinds=st.lists(_kinds, min_size=1, max_size=3))
    def begin(self, kinds: list[str]) -> None:
        async def begin() -> None:
            await self._system.begin_anew()
            self.history = History(self._system)
            await self.history.send(kinds)

        self._do(begin())

    @precondition(lambda self: len(self.history.told.requests) < MOST_EMAILS)
    @rule(kinds=st.lists(_kinds, min_size=1, max_size=3))
    def send(self, kinds: list[str]) -> None:
        self._do(self.history.send(kinds))

    @precondition(lambda self: self.history.told.requests)
    @rule(which=_which)
    def send_again(self, which: int) -> None:
        self._do(self.history.send_again(self._one_of(list(self.history.told.requests), which)))

    @precondition(lambda self: self._system.answered)
    @rule(which=_which)
    def send_other(self, which: int) -> None:
        self._do(self.history.send_other(self._one_of(list(self._system.answered), which)))

    @precondition(lambda self: self._system.answered)
    @rule(which=_which)
    def cancel(self, which: int) -> None:
        self._do(self.history.cancel(self._one_of(list(self._system.answered), which)))

    @rule(consumer=_consumers)
    def work(self, consumer: int) -> None:
        self._do(self.history.work(consumer))

    @rule(rounds=st.integers(1, 4), seconds=st.sampled_from([1, 8, 31]))
    def be_busy(self, rounds: int, seconds: float) -> None:
        self._do(self.history.be_busy(rounds, seconds))

    @rule(seconds=st.sampled_from([CLAIM_IDLE_S + 1, 700]))
    def recover(self, seconds: float) -> None:
        self._do(self.history.be_busy(2, seconds))

    @rule()
    def reconcile(self) -> None:
        self._do(self.history.reconcile())

    @rule(consumer=_consumers)
    def replay(self, consumer: int) -> None:
        self._do(self.history.replay(consumer))

    @rule(process=st.integers(0, 2), steps=_steps, moment=_moments)
    def crash(self, process: int, steps: int, moment: Moment) -> None:
        self.history.doom(process, steps, moment, Fate.DIES)

    @rule(deaths=st.integers(2, 6), steps=_steps, moment=_moments)
    def die_again_and_again(self, deaths: int, steps: int, moment: Moment) -> None:
        self._do(self.history.die_again_and_again(deaths, steps, moment))

    @rule(consumer=_consumers, steps=_steps, moment=_moments)
    def stop(self, consumer: int, steps: int, moment: Moment) -> None:
        self.history.doom(consumer, steps, moment, Fate.STOPS)

    @rule(consumer=_consumers)
    def go_on(self, consumer: int) -> None:
        self._do(self.history.go_on(consumer))

    @rule(consumer=_consumers, politely=st.booleans())
    def restart(self, consumer: int, politely: bool) -> None:
        self._do(self.history.shut_down(consumer) if politely else self.history.kill(consumer))

    @rule(engine=st.integers(0, 1), lost=st.integers(0, 2))
    def engine_is_away_or_loses_answers(self, engine: int, lost: int) -> None:
        self.history.break_engine(engine, lost)

    @rule()
    def engines_are_back(self) -> None:
        self._do(self.history.mend_engines())

    @rule(event=st.sampled_from(["flush", "keep", "keep", "fail over"]))
    def redis_forgets(self, event: str) -> None:
        events = {"flush": self.history.flush, "keep": self.history.keep, "fail over": self.history.fail_over}
        self._do(events[event]())

    @precondition(lambda self: len(self.history.told.requests) < MOST_EMAILS)
    @rule(kinds=st.lists(_kinds, min_size=1, max_size=3), failures=_failures, consumer=_consumers)
    def send_into_trouble(self, kinds: list[str], failures: list[tuple[str, int]], consumer: int) -> None:
        self._do(self.history.fail(failures))
        self._do(self.history.send(kinds))
        self._do(self.history.work(consumer))

    @rule(failures=_failures)
    def provider_fails(self, failures: list[tuple[str, int]]) -> None:
        self._do(self.history.fail(failures))

    @rule(failures=_failures)
    def provider_fails_while_they_work(self, failures: list[tuple[str, int]]) -> None:
        self._do(self.history.fail(failures))
        self._do(self.history.be_busy(len(failures), 8))

    @rule(seconds=st.sampled_from([3700, 30000, 86400]))
    def time_passes(self, seconds: float) -> None:
        self._do(self.history.pass_time(seconds))

    @invariant()
    def nothing_is_doubled(self) -> None:
        self.history.check_now()

    def teardown(self) -> None:
        try:
            if hasattr(self, "history"):
                self._seen.update(self._do(self.history.end()))
                self._seen.update({"histories": 1, "crashes": self.history.deaths})
        finally:
            self._captured.__exit__(None, None, None)
        check_logs(self._logs)

    @staticmethod
    def _one_of(subjects: list[str], which: int) -> str:
        return subjects[which % len(subjects)]


@asynccontextmanager
async def opened(dsn: str, valkey: ValkeyServer, clock: Clock) -> AsyncIterator[System]:
    with tasks_belong_to_processes():
        async with (
            open_pool(dsn, max_size=8) as pool,
            open_redis(valkey.url, timeout=timedelta(seconds=5)) as redis,
            SandboxServer(options=Options(requests_per_second=0)) as sandbox,
            System.open(pool, redis, sandbox, clock, answer_s=0.2) as system,
        ):
            yield system


@pytest.mark.timeout(0 if DEEP else 300)
def test_whatever_happens_each_email_ends_and_is_delivered_once_at_most(
    dsn: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    take_over_time(monkeypatch, clock)
    with asyncio.Runner() as loop:
        world = opened(dsn, valkey, clock)
        system = loop.run(world.__aenter__())
        seen: Counter[str] = Counter()
        try:
            run_state_machine_as_test(
                cast("type[Histories]", lambda: Histories(loop, system, seen)),  # it calls whatever it is given
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    derandomize=not DEEP,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            print(f"\n{dict(seen)}")  # noqa: T201 - the numbers are the result
            loop.run(world.__aexit__(None, None, None))
    assert seen["histories"]
    assert seen["SUCCESS"]
