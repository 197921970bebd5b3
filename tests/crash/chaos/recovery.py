"""How long it took to go on after each fault, and from acceptance to the end. Pure."""

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crash.chaos.evidence import Row
from crash.chaos.faults import Happened
from crash.chaos.schedule import FaultKind


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a kind of fault was got over.

    Attributes:
        happened: How often it took place.
        longest_s: Until the next email was delivered, while one waited; from when the fault was over, and whatever else
            stopped all delivery at that time. None: nothing was delivered afterwards.
    """

    happened: int
    longest_s: float | None


def recoveries(
    faults: Sequence[Happened], rows: Sequence[Row], delivered_at: Iterable[float]
) -> dict[FaultKind, Recovery]:
    """How each kind of fault was got over."""
    deliveries = sorted(delivered_at)
    waiting = _Waiting(rows)
    blockers = sorted((h.began, h.over) for h in faults if h.fault.stops_all)
    gaps: dict[FaultKind, list[float]] = {kind: [] for kind in FaultKind}
    for over, kind in sorted((_all_over(happened.over, blockers), happened.fault.kind) for happened in faults):
        index = bisect_left(deliveries, over)
        if index < len(deliveries):
            gaps[kind].append(max(0.0, deliveries[index] - max(over, waiting.since(deliveries[index]))))
    times = Counter(happened.fault.kind for happened in faults)
    return {kind: Recovery(times[kind], max(gaps[kind], default=None)) for kind in FaultKind if times[kind]}


def _all_over(at: float, blockers: Sequence[tuple[float, float]]) -> float:
    """When delivery is possible again: the time itself, or when the last of what stops it is over."""
    for began, over in blockers:
        if began <= at < over:
            at = over
    return at


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class _Waiting:
    """Since when emails have been waiting; asked for one time after the other, never going back."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._to_come = sorted(((row.accepted_at, row.ended_at) for row in rows), reverse=True)
        self._open: list[tuple[float, float]] = []

    def since(self, at: float) -> float:
        """When the oldest of those was accepted that had not ended at this time; the time itself if all had."""
        while self._to_come and self._to_come[-1][0] <= at:
            heapq.heappush(self._open, self._to_come.pop())
        while self._open and self._open[0][1] < at:
            heapq.heappop(self._open)
        return self._open[0][0] if self._open else at
