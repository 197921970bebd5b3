"""Many dead letters, a bounded number in each call, with a progress bar on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sred_email_operator import output

CHUNK = 500
"""Dead letters in one call: seconds, not minutes."""

Tell = Callable[[int, int], None]
"""Told how many are done, and how many are left."""


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """Show on a terminal how far it is; elsewhere, show nothing.

    Args:
        what: Is being done.

    Yields:
        What to tell how many are done, and how many are left.
    """
    screen = output.console(stderr=True)
    if not screen.is_terminal:
        yield lambda _done, _left: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, left: bar.update(task, completed=done, total=done + left)


def in_chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut ids into what one call takes."""
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
