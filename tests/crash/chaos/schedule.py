"""What goes wrong, and when: drawn from a seed, so that a run can be repeated. Pure."""

import random
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from itertools import count


class FaultKind(StrEnum):
    """What can happen; the value is what people read."""

    KILL = "SIGKILL of a service"
    TERMINATE = "SIGTERM of a service"
    FREEZE = "SIGSTOP of a service beyond its lease"
    KILL_VALKEY = "SIGKILL of Valkey"
    FLUSH = "FLUSHALL"
    STOP_POSTGRES = "immediate stop of PostgreSQL"
    CUT = "connections reset"
    STALL = "connections stalled"
    MUTE = "answers stalled, then reset"
    REFUSE = "connections refused"
    RATE_LIMITED = "provider: 429 with retry-after"
    SERVER_ERROR = "provider: 500"
    ACCEPT_THEN_500 = "provider: accepted, then 500"
    ACCEPT_THEN_HANG = "provider: accepted, then no answer"
    ACCEPT_THEN_RESET = "provider: accepted, then reset"
    ACCEPT_THEN_REFUSE = "provider: accepted, then 500, then 429"
    SLOW = "provider: slow"


class Upstream(StrEnum):
    """What services connect to."""

    POSTGRES = "PostgreSQL"
    VALKEY = "Valkey"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_s: Seconds after the start.
        lasts_s: Until it is made good; of KILL, TERMINATE and KILL_VALKEY: until the next start.
        service: Whose process, or whose connections; None: all connections.
        upstream: Which connections.
    """

    at_s: float
    kind: FaultKind
    lasts_s: float
    service: str | None = None
    upstream: Upstream | None = None

    @property
    def stops_all(self) -> bool:
        """Whether nothing can be delivered while it lasts."""
        return self.kind in _OF_ALL or (self.kind in _OF_CONNECTIONS and self.service is None)

    def __str__(self) -> str:
        whose = " ".join(part for part in (self.service, self.upstream and f"to {self.upstream}") if part)
        return f"{self.at_s:.2f} s: {self.kind.value}" + (f" ({whose})" if whose else "")


_LASTS_S = {
    FaultKind.KILL: (0.1, 1.0),
    FaultKind.TERMINATE: (0.1, 1.0),
    FaultKind.FREEZE: (5.0, 8.0),
    FaultKind.KILL_VALKEY: (0.1, 2.0),
    FaultKind.STOP_POSTGRES: (0.1, 2.0),
    FaultKind.STALL: (0.5, 5.0),
    FaultKind.MUTE: (0.2, 1.5),
    FaultKind.REFUSE: (0.2, 2.0),
    FaultKind.RATE_LIMITED: (0.2, 1.0),
    FaultKind.SERVER_ERROR: (0.2, 2.0),
    FaultKind.ACCEPT_THEN_500: (0.2, 1.5),
    FaultKind.ACCEPT_THEN_HANG: (0.2, 1.0),
    FaultKind.ACCEPT_THEN_RESET: (0.2, 1.5),
    FaultKind.ACCEPT_THEN_REFUSE: (0.5, 1.5),
    FaultKind.SLOW: (0.5, 2.5),
}
_OF_A_SERVICE = frozenset({FaultKind.KILL, FaultKind.TERMINATE, FaultKind.FREEZE})
_OF_CONNECTIONS = frozenset({FaultKind.CUT, FaultKind.STALL, FaultKind.MUTE, FaultKind.REFUSE})
_OF_ALL = frozenset(
    {
        FaultKind.KILL_VALKEY,
        FaultKind.STOP_POSTGRES,
        FaultKind.RATE_LIMITED,
        FaultKind.SERVER_ERROR,
        FaultKind.ACCEPT_THEN_REFUSE,
    }
)
_FREEZE_A_CONSUMER = 0.8
_ALL_CONNECTIONS = 0.3
_TO_WAKE_UP_S = 1.0


def plan(
    seed: int,
    duration_s: float,
    *,
    ingresses: Sequence[str],
    consumers: Sequence[str],
    pause_s: tuple[float, float] = (0.9, 1.5),
) -> list[Fault]:
    """Draw the faults of a run, in the order of their times.

    All but kills come from a deck of one card each, shuffled anew when it is used up, so that a run of twenty seconds
    already sees every kind. A service is killed every second, but none that is stopped: it is to wake up and find that
    its work is another's.

    Args:
        seed: The same one draws the same faults.
        duration_s: How long things go wrong.
        ingresses: Names of these processes.
        consumers: Names of these processes.
        pause_s: Shortest and longest time between two cards.
    """
    rng = random.Random(f"faults {seed}")  # noqa: S311 - to be repeated, not to be secret
    draw = _Draw(rng, ingresses, consumers)
    faults: list[Fault] = []
    at_s = 0.0
    for kind in _cards(rng):
        at_s += rng.uniform(*pause_s)
        if at_s >= duration_s:
            break
        faults.append(draw.fault(at_s, kind))
    frozen = [fault for fault in faults if fault.kind is FaultKind.FREEZE]
    for second in range(1, int(duration_s)):
        spared = {f.service for f in frozen if f.at_s <= second <= f.at_s + f.lasts_s + _TO_WAKE_UP_S}
        faults.append(draw.fault(float(second), FaultKind.KILL, spared))
    return sorted(faults, key=lambda fault: fault.at_s)


def _cards(rng: random.Random) -> Iterator[FaultKind]:
    for _ in count():
        deck = [kind for kind in FaultKind if kind is not FaultKind.KILL]
        rng.shuffle(deck)
        yield from deck


class _Draw:
    """Draws whom a fault meets, and for how long."""

    def __init__(self, rng: random.Random, ingresses: Sequence[str], consumers: Sequence[str]) -> None:
        self._rng = rng
        self._ingresses = list(ingresses)
        self._consumers = list(consumers)

    def fault(self, at_s: float, kind: FaultKind, spared: AbstractSet[str | None] = frozenset()) -> Fault:
        lasts_s = self._rng.uniform(*_LASTS_S.get(kind, (0.0, 0.0)))
        if kind in _OF_A_SERVICE:
            return Fault(at_s, kind, lasts_s, self._service(kind, spared))
        if kind in _OF_CONNECTIONS:
            return Fault(at_s, kind, lasts_s, *self._connections())
        return Fault(at_s, kind, lasts_s)

    def _service(self, kind: FaultKind, spared: AbstractSet[str | None]) -> str:
        if kind is FaultKind.FREEZE:
            consumer = self._rng.random() < _FREEZE_A_CONSUMER
            return self._rng.choice(self._consumers if consumer else self._ingresses)
        return self._rng.choice([name for name in self._ingresses + self._consumers if name not in spared])

    def _connections(self) -> tuple[str | None, Upstream]:
        upstream = self._rng.choice(list(Upstream))
        if self._rng.random() < _ALL_CONNECTIONS:
            return None, upstream
        provider = upstream is Upstream.PROVIDER  # which only consumers connect to
        return self._rng.choice(self._consumers if provider else self._ingresses + self._consumers), upstream
