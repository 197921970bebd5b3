"""What is computed of what was measured. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent are not above; 0 of nothing.

    Args:
        ordered: Smallest first.
        percent: 0 to 100.
    """
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, min(len(ordered) - 1, int(rank) - 1))]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached.

    Attributes:
        value: Of the ratio to the bare loop, or of the figure itself.
        at_most: The figure may not be more; else it may not be less.
        of_ratio: It is meant of the ratio.
        words: As people read it.
    """

    value: float
    words: str
    at_most: bool = False
    of_ratio: bool = False

    def reached(self, figure: float) -> bool:
        """Whether a figure does."""
        return figure <= self.value if self.at_most else figure >= self.value


@dataclass(slots=True)
class Measured:
    """One row: the same thing, some times.

    Attributes:
        name: Of the row.
        what: What was measured, for people.
        unit: Of the figures.
        target: What is to be reached; None: nothing, it is to know.
        runs: The figure of each run.
        bare: The figure of the bare loop beside each run; empty: there is none.
        notes: What else was seen in the last run.
    """

    name: str
    what: str
    unit: str
    target: Target | None
    runs: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """Median of the ratios of each run to the bare loop beside it; None: there is no bare loop."""
        if not self.bare:
            return None
        return statistics.median(run / bare for run, bare in zip(self.runs, self.bare, strict=True))

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None: there is none."""
        if self.target is None:
            return None
        return self.target.reached((self.ratio or 0.0) if self.target.of_ratio else self.median)

    def as_json(self) -> dict[str, Any]:
        """Everything, and what is computed of it."""
        computed = {"median": self.median, "min": min(self.runs), "max": max(self.runs), "ratio": self.ratio}
        return {**asdict(self), **computed, "reached": self.reached}
