"""What is computed of what was measured."""

import pytest
from benchmarks.figures import Measured, Target, percentile


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (1, 1.0), (50, 50.0), (50.5, 51.0), (99, 99.0), (99.5, 100.0), (100, 100.0)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_are_not_above(percent: float, value: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == value


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 99) == 0.0


def test_a_ratio_is_the_median_of_each_run_beside_its_own_bare_loop() -> None:
    measured = Measured("r", "what", "/s", Target(0.7, "70 %", of_ratio=True), runs=[80, 40, 10], bare=[100, 50, 100])
    assert (measured.ratio, measured.median, measured.reached) == (0.8, 40, True)


def test_a_figure_is_held_against_its_target() -> None:
    at_most = Measured("r", "what", "ms", Target(4, "4 ms", at_most=True), runs=[3.0, 9.0, 3.5])
    assert (at_most.ratio, at_most.reached) == (None, True)
    assert Measured("r", "what", "/s", Target(10, "10"), runs=[9.0]).reached is False
    assert Measured("r", "what", "/s", None, runs=[9.0]).reached is None


def test_what_is_written_says_what_was_computed() -> None:
    written = Measured(
        "r", "what", "/s", Target(0.5, "half", of_ratio=True), runs=[5.0, 7.0], bare=[10.0, 10.0]
    ).as_json()
    assert (written["median"], written["min"], written["max"], written["ratio"]) == (6.0, 5.0, 7.0, 0.6)
    assert written["reached"] is True
    assert written["target"]["words"] == "half"
