"""What a run found, for people, for programs and for the documentation."""

import os
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from crash.chaos.recovery import Recovery
from support.world import World

_MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    cpus: int
    python: str
    postgres: str
    valkey: str

    def __str__(self) -> str:
        return f"{self.cpus} cores, Python {self.python}, PostgreSQL {self.postgres}, Valkey {self.valkey}"


@dataclass(slots=True)
class Report:
    """One run. Seconds unless a name says otherwise.

    Attributes:
        faults: By kind.
        rest_s: From the end of the faults until all emails had ended; None: they had not in time.
        ends_s: From acceptance to end: p50, p99 and the longest.
        happened: What went wrong, in the order of the ends.
        problems: A line for each email, answer, process or leftover that is not as it must be.
    """

    seed: int
    duration_s: float
    rate: float
    machine: Machine
    began: datetime
    calls: int
    answers: dict[str, int]
    accepted: int
    duplicates: int
    conflicts_refused: int
    faults: dict[str, Recovery]
    statuses: dict[str, int]
    dead_letters: dict[str, int]
    batched: int
    batches: int
    lost: int
    doubled: int
    wrong: int
    given_up: int
    unanswered: int
    rest_s: float | None
    ends_s: tuple[float, float, float]
    happened: list[str]
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, doubled or wrong, and nothing was left over."""
        return not self.problems and self.rest_s is not None

    @property
    def longest_recovery_s(self) -> float | None:
        """The longest of all kinds of faults."""
        return max((f.longest_s for f in self.faults.values() if f.longest_s is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        extra = {"ok": self.ok, "longest_recovery_s": self.longest_recovery_s}
        return {**asdict(self), "began": self.began.isoformat(timespec="seconds"), **extra}

    def lines(self) -> list[tuple[str, str]]:
        """Names and values, in the order of their weight."""
        p50, p99, longest = self.ends_s
        rows = [
            ("lost", f"{self.lost}"),
            ("doubled", f"{self.doubled}"),
            ("wrong", f"{self.wrong}"),
            ("seed, duration, rate", f"{self.seed}, {self.duration_s:g} s, {self.rate:g} emails/s"),
            ("date", f"{self.began:%Y-%m-%d}"),
            ("machine", str(self.machine)),
            ("calls", f"{self.calls:,} ({_counted(self.answers)})"),
            ("emails accepted", f"{self.accepted:,}"),
            ("sent again under their key, and deduplicated", f"{self.duplicates:,}"),
            ("key with other content, refused", f"{self.conflicts_refused:,}"),
            ("emails by final status", _counted(self.statuses)),
            ("dead letters by reason", _counted(self.dead_letters)),
            ("emails that arrived in batches", f"{self.batched:,}, in {self.batches:,}"),
            ("faults", f"{sum(f.happened for f in self.faults.values()):,}"),
            ("longest recovery", _seconds(self.longest_recovery_s)),
            ("acceptance to end: p50, p99, longest", f"{p50:.2f} s, {p99:.2f} s, {longest:.2f} s"),
            ("all ended after the last fault within", _seconds(self.rest_s)),
        ]
        others = [("given up", self.given_up), ("without an answer", self.unanswered), ("problems", len(self.problems))]
        return rows[:3] + [(name, f"{count}") for name, count in others if count] + rows[3:]

    def as_text(self) -> str:
        """For a terminal."""
        rows = self.lines()
        width = max(len(name) for name, _ in rows)
        text = [f"  {name:<{width}}  {value}" for name, value in rows]
        text += ["", f"  {'fault':<{width}}  {'times':>6}  longest recovery"]
        text += [f"  {k:<{width}}  {f.happened:>6}  {_seconds(f.longest_s)}" for k, f in self.faults.items()]
        if self.problems:
            text += ["", *(f"  ! {problem}" for problem in self.problems[:_MOST_LINES])]
            if len(self.problems) > _MOST_LINES:
                text.append(f"  ! and {len(self.problems) - _MOST_LINES} more")
        return "\n".join(text)

    def as_markdown(self) -> str:
        """For docs/reliability.md."""
        text = ["| | |", "| --- | --- |"]
        text += [f"| {name} | {value} |" for name, value in self.lines()]
        text += ["", "| fault | times | longest recovery |", "| --- | --- | --- |"]
        text += [f"| {kind} | {f.happened} | {_seconds(f.longest_s)} |" for kind, f in self.faults.items()]
        return "\n".join(text)


async def describe_machine(world: World) -> Machine:
    """Where this runs."""
    info = await world.redis.info("server")
    return Machine(
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        python=platform.python_version(),
        postgres=str(await world.pool.fetchval("SHOW server_version")).split()[0],
        valkey=str(info.get("valkey_version") or info["redis_version"]),
    )


def now() -> datetime:
    """The date of a run."""
    return datetime.now(UTC)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in Counter(counts).most_common()) or "none"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"
