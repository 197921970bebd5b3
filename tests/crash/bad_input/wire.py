"""Messages as bytes, made by hand."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def examples(count: int) -> settings:
    """So many of them, the same each time."""
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


def number(value: int) -> bytes:
    """A varint."""
    data = bytearray()
    while value > 127:
        data.append(value % 128 + 128)
        value //= 128
    return bytes([*data, value])


def field(tag: int, value: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return number(tag * 8 + 2) + number(len(value)) + value


@st.composite
def broken(draw: Callable[[st.SearchStrategy[Any]], Any], whole: bytes) -> bytes:
    """A message some bytes of which are others, are missing, or are too many."""
    first, last = sorted((draw(st.integers(0, len(whole))), draw(st.integers(0, len(whole)))))
    last = draw(st.sampled_from([first, first + 1, last]))
    instead: bytes = draw(st.one_of(st.binary(max_size=12), st.sampled_from([b"\xff" * 12, b"\x00"])))
    return whole[:first] + instead + whole[last:]


def collect(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many values of a strategy, the same each time."""
    found: list[Any] = []

    @examples(count)
    @given(strategy)
    def take(value: Any) -> None:
        found.append(value)

    take()
    return found
