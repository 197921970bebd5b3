"""Carries out what the schedule says."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from redis.exceptions import RedisError

from crash.chaos.letters import REFUSED_SUBJECT
from crash.chaos.schedule import Fault, FaultKind
from crash.chaos.stage import Stage
from sred_email_core.lifecycle import wait_for
from sred_email_local.sandbox.rules import Action, Rule

_OF_ENGINES = frozenset({FaultKind.KILL_VALKEY, FaultKind.FLUSH, FaultKind.STOP_POSTGRES})
_RETRY_AFTER_S = 1
_LIMITED = Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": str(_RETRY_AFTER_S)})
_ACCEPT_THEN_500 = Rule(action=Action.ACCEPT_THEN_500)
_WEATHER = {
    FaultKind.RATE_LIMITED: [_LIMITED],
    FaultKind.SERVER_ERROR: [Rule(status=500)],
    FaultKind.ACCEPT_THEN_500: [_ACCEPT_THEN_500],
    FaultKind.ACCEPT_THEN_HANG: [Rule(action=Action.ACCEPT_THEN_HANG)],
    FaultKind.ACCEPT_THEN_RESET: [Rule(action=Action.ACCEPT_THEN_RESET)],
    FaultKind.ACCEPT_THEN_REFUSE: [_ACCEPT_THEN_500, _LIMITED],  # what is refused there has been delivered
    FaultKind.SLOW: [Rule(action=Action.DELAY, delay_s=1.0)],
}
"""What each brings, one after the other."""
_REFUSED = Rule(
    action=Action.REJECT,
    subject=re.compile(REFUSED_SUBJECT),
    status=422,
    name="validation_error",
    message="This one is refused.",
)


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that took place.

    Attributes:
        began: Unix seconds.
        over: When it was made good; of a killed service, when it was killed, as others go on; of a rate limit, when
            the provider may be asked again.
    """

    fault: Fault
    began: float
    over: float


class FaultInjector:
    """Lets things go wrong on a stage, and makes all of it good at the end."""

    def __init__(self, stage: Stage) -> None:
        self.happened: list[Happened] = []
        self._stage = stage
        self._calm = asyncio.Event()
        self._engines = asyncio.Lock()  # one engine at a time, so that each comes back
        self._weather: list[Rule] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._forecast()

    @property
    def latest(self) -> str:
        """What has gone wrong last, and is over or not."""
        return str(self.happened[-1].fault) if self.happened else ""

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out faults at their times; returns after the last has begun."""
        began = time.monotonic()
        for fault in faults:
            await asyncio.sleep(began + fault.at_s - time.monotonic())
            task = asyncio.create_task(self._carry_out(fault), name=str(fault))
            self._under_way.add(task)

    async def make_good(self) -> None:
        """End every fault that still lasts; afterwards nothing is wrong any more.

        Raises:
            Exception: A fault could not be carried out or made good: the run says nothing then.
        """
        self._calm.set()
        await asyncio.gather(*self._under_way)
        for keeper in self._stage.keepers.values():
            keeper.thaw()

    async def _carry_out(self, fault: Fault) -> None:
        async with self._engines if fault.kind in _OF_ENGINES else nullcontext():
            began = time.time()
            if await self._ways(fault)():
                self.happened.append(Happened(fault, began, _over(fault, began, time.time())))

    def _ways(self, fault: Fault) -> Callable[[], Awaitable[bool]]:
        match fault.kind:
            case FaultKind.KILL | FaultKind.TERMINATE | FaultKind.FREEZE:
                return lambda: self._harm_process(fault)
            case kind if kind in _OF_ENGINES:
                return lambda: self._harm_engine(fault)
            case FaultKind.CUT | FaultKind.STALL | FaultKind.MUTE | FaultKind.REFUSE:
                return lambda: self._harm_connections(fault)
            case _:
                return lambda: self._bad_weather(fault)

    async def _last(self, fault: Fault) -> None:
        await wait_for(self._calm, fault.lasts_s)

    async def _harm_process(self, fault: Fault) -> bool:
        keeper = self._stage.keepers[fault.service or ""]
        if fault.kind is FaultKind.KILL:
            return keeper.kill(fault.lasts_s)
        if fault.kind is FaultKind.TERMINATE:
            return keeper.terminate(fault.lasts_s)
        ran = keeper.freeze()
        await self._last(fault)
        keeper.thaw()
        return ran

    async def _harm_engine(self, fault: Fault) -> bool:
        if self._calm.is_set():  # it has waited for another one
            return False
        if fault.kind is FaultKind.FLUSH:
            return await self._flush()
        if fault.kind is FaultKind.KILL_VALKEY:
            self._stage.valkey.kill()
            await self._last(fault)
            await self._stage.valkey.start()
        else:
            await self._stage.postgres.stop("immediate")
            await self._last(fault)
            await self._stage.postgres.start()
        return True

    async def _flush(self) -> bool:
        try:
            return bool(await self._stage.world.redis.flushall())
        except RedisError:  # the connection was one to the server of before
            return bool(await self._stage.world.redis.flushall())

    async def _harm_connections(self, fault: Fault) -> bool:
        links = self._stage.links_of(fault.service, fault.upstream)
        for link in links:
            match fault.kind:
                case FaultKind.STALL:
                    link.stall()
                case FaultKind.MUTE:
                    link.stall(answers_only=True)
                case FaultKind.REFUSE:
                    await link.refuse()
                case _:
                    link.cut()
        if fault.kind is not FaultKind.CUT:
            await self._last(fault)
            for link in links:
                if fault.kind is FaultKind.MUTE:
                    link.cut()
                await link.resume()
        return True

    async def _bad_weather(self, fault: Fault) -> bool:
        rules = _WEATHER[fault.kind]
        for rule in rules:
            self._weather.append(rule)
            self._forecast()
            await wait_for(self._calm, fault.lasts_s / len(rules))
            self._weather.remove(rule)
        self._forecast()
        return True

    def _forecast(self) -> None:
        # Refusals come first: an email that is to be refused must not slip through with the weather.
        self._stage.world.rules(_REFUSED, *self._weather)


def _over(fault: Fault, began: float, made_good: float) -> float:
    if fault.kind in {FaultKind.KILL, FaultKind.TERMINATE}:
        return began
    limited = fault.kind in {FaultKind.RATE_LIMITED, FaultKind.ACCEPT_THEN_REFUSE}
    return made_good + _RETRY_AFTER_S if limited else made_good
