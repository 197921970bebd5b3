"""Charts of the last hour, as the coordinates that a template draws. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sred.email.v1.operations_service_pb2 import MinuteStats
from sred_email_operator.console.rendering import age, count

WIDTH, HEIGHT = 600, 170
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 12, 26
MINUTES = 60
_MINUTE_S = 60
_NICE = (1, 2, 5, 10)
_LEAST_DECADES = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across the chart, and what it stands for."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One series.

    Attributes:
        name: For the legend.
        path: Of an SVG path: broken where nothing is known.
        dots: Points that have no neighbour.
        now: The last value, in words.
        most: The highest one, in words.
    """

    name: str
    path: str
    dots: Sequence[tuple[float, float]]
    now: str
    most: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws."""

    title: str
    rules: Sequence[Rule]
    lines: Sequence[Line]

    @property
    def summary(self) -> str:
        """The chart for who can't see it."""
        told = "; ".join(f"{line.name}: {line.now} in the last minute, {line.most} at most" for line in self.lines)
        return f"{self.title}, the last hour. {told}"


def throughput(minutes: Sequence[MinuteStats], now_s: float) -> Chart:
    """Emails accepted and sent in each minute; in a minute that is not there, none."""
    by_minute = _by_minute(minutes, now_s)
    series = {
        "accepted": [float(m.accepted) if m else 0.0 for m in by_minute],
        "sent": [float(m.sent) if m else 0.0 for m in by_minute],
    }
    top = _nice(max(max(values) for values in series.values()))
    place = _Linear(top)
    rules = [Rule(place(top * part), count(round(top * part))) for part in (0, 0.5, 1)]
    return Chart("Emails a minute", rules, _lines(series, place, lambda value: count(round(value))))


def latency(minutes: Sequence[MinuteStats], now_s: float) -> Chart:
    """How long emails took, half of them and nearly all, on a logarithmic scale; a minute without any is a gap."""
    by_minute = _by_minute(minutes, now_s)
    series = {
        "half within": [_ms(m, "latency_p50") for m in by_minute],
        "99 of 100 within": [_ms(m, "latency_p99") for m in by_minute],
    }
    known = [value for values in series.values() for value in values if value is not None] or [10.0, 1000.0]
    low = math.floor(math.log10(max(1.0, min(known))))
    high = max(low + _LEAST_DECADES, math.ceil(math.log10(max(1.0, *known))))
    place = _Logarithmic(low, high)
    rules = [Rule(place(10.0**power), _decade(10.0**power)) for power in range(low, high + 1)]
    return Chart("From acceptance to the provider", rules, _lines(series, place, _words))


class _Linear:
    def __init__(self, top: float) -> None:
        self._top = top

    def __call__(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - value / self._top * (HEIGHT - TOP - BOTTOM), 1)


class _Logarithmic:
    def __init__(self, low: int, high: int) -> None:
        self._low, self._span = low, high - low

    def __call__(self, value: float) -> float:
        part = (math.log10(max(1.0, value)) - self._low) / self._span
        return round(HEIGHT - BOTTOM - max(0.0, part) * (HEIGHT - TOP - BOTTOM), 1)


def _by_minute(minutes: Sequence[MinuteStats], now_s: float) -> list[MinuteStats | None]:
    """The last hour without the minute that is not over, the earliest first."""
    this = int(now_s // _MINUTE_S)
    known: Mapping[int, MinuteStats] = {minute.at.seconds // _MINUTE_S: minute for minute in minutes}
    return [known.get(this - back) for back in range(MINUTES, 0, -1)]


def _lines(
    series: Mapping[str, Sequence[float | None]], place: Callable[[float], float], words: Callable[[float], str]
) -> list[Line]:
    step = (WIDTH - LEFT - RIGHT) / (MINUTES - 1)
    lines = []
    for name, values in series.items():
        runs: list[list[tuple[float, float]]] = [[]]
        for index, value in enumerate(values):
            if value is None:
                runs.append([])
            else:
                runs[-1].append((round(LEFT + index * step, 1), place(value)))
        path = " ".join("M" + " L".join(f"{x} {y}" for x, y in run) for run in runs if len(run) > 1)
        known = [value for value in values if value is not None]
        last = values[-1]
        lines.append(
            Line(
                name,
                path,
                [run[0] for run in runs if len(run) == 1],
                words(last) if last is not None else "none",
                words(max(known)) if known else "none",
            )
        )
    return lines


def _nice(top: float) -> float:
    """The next round number: at least 4."""
    if top <= 4:  # noqa: PLR2004 - said above
        return 4.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in _NICE if step * power >= top)


def _ms(minute: MinuteStats | None, field: str) -> float | None:
    if minute is None or not minute.HasField(field):  # type: ignore[arg-type]
        return None
    return float(getattr(minute, field).ToTimedelta() / timedelta(milliseconds=1))


def _decade(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,g} s"  # noqa: PLR2004 - a second


def _words(milliseconds: float) -> str:
    return age(timedelta(milliseconds=milliseconds))
