"""Shows what was measured: a table for people, JSON for machines, a plot for docs/performance.md."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from benchmarks.figures import Measured
from rich.console import Console
from rich.table import Table

_WIDTH, _LINE, _LEFT, _BAR = 760, 26, 400, 260


def show(rows: Sequence[Measured], console: Console) -> None:
    """Print the table."""
    table = Table("row", "figure", "min to max", "bare loop", "ratio", "target", "reached")
    for row in rows:
        ratio = row.ratio
        bare = "" if not row.bare else number(sum(row.bare) / len(row.bare))
        reached = {True: "[green]yes", False: "[red]no", None: ""}[row.reached]
        table.add_row(
            row.what,
            f"{number(row.median)} {row.unit}",
            f"{number(min(row.runs))} to {number(max(row.runs))}",
            bare,
            "" if ratio is None else f"{ratio:.0%}",
            row.target.words if row.target else "",
            reached,
        )
    console.print(table)


def write_json(rows: Sequence[Measured], about: dict[str, Any], file: Path) -> None:
    """Write everything that was measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = {"about": about, "rows": [row.as_json() for row in rows]}
    file.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2))


def write_markdown(rows: Sequence[Measured], file: Path) -> None:
    """Write the table as docs/performance.md has it."""
    lines = [
        "| what | median | min to max | bare loop | ratio | target | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        bare = "" if not row.bare else number(statistics.median(row.bare))
        ratio = "" if row.ratio is None else f"{row.ratio:.0%}"
        reached = {True: "reached", False: "**not reached**", None: ""}[row.reached]
        figures = f"{number(row.median)} {row.unit} | {number(min(row.runs))} to {number(max(row.runs))}"
        target = row.target.words if row.target else ""
        lines.append(f"| {row.what} | {figures} | {bare} | {ratio} | {target} | {reached} |")
    file.write_text("\n".join(lines) + "\n")


def write_plot(rows: Sequence[Measured], file: Path) -> None:
    """Draw the ratios to the bare loops as bars, each with the mark of its target."""
    shown = [row for row in rows if row.ratio is not None]
    size = f'width="{_WIDTH}" height="{_LINE * len(shown) + 10}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">']
    for position, row in enumerate(shown):
        y = 5 + position * _LINE
        ratio = min(row.ratio or 0.0, 1.2)
        colour = "#8a8a8a" if row.reached is None else "#2f8f5b" if row.reached else "#c2553d"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{row.what}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{ratio * _BAR:.0f}" height="{_LINE - 7}" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + ratio * _BAR + 6:.0f}" y="{y + 15}">{row.ratio:.0%}</text>')
        if row.target is not None and row.target.of_ratio:
            x = _LEFT + row.target.value * _BAR
            parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y - 2}" y2="{y + _LINE - 5}" stroke="#222"/>')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*parts, "</svg>"]) + "\n")


def number(value: float) -> str:
    """A figure with as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
