"""Many dead letters, a bounded number in each call, with a progress bar on a terminal, until Ctrl-C."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import grpc
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sred_email_operator import output

CHUNK = 500
"""Dead letters in one call: seconds, not minutes."""

_Request = TypeVar("_Request")


@dataclass(frozen=True, slots=True)
class Done:
    """What calls have done.

    Attributes:
        done: Dead letters that are done.
        remaining: Dead letters that are left to be asked for.
        skipped: Dead letters that are left as they are.
    """

    done: int = 0
    remaining: int = 0
    skipped: int = 0


def work(
    requests: Sequence[_Request], call: Callable[[_Request], Done], *, doing: str, done_word: str, again: bool
) -> Done:
    """Make calls one after another until all is done, or Ctrl-C ends it after the call that is under way.

    On a terminal a bar shows how far it is; elsewhere, nothing does.

    Args:
        requests: Of the calls.
        call: Makes one.
        doing: What the bar says: ``replaying``.
        done_word: What the last line says of those that are done: ``replayed``.
        again: Whether a request is made until nothing remains of it.

    Raises:
        typer.Exit: It was interrupted; stderr says how many are done, and the exit code is 1.
        grpc.RpcError: A call failed; stderr says how many were done before.
    """
    total = Done()
    try:
        with _until_interrupted() as interrupted, _bar(doing) as tell:
            for total in _totals(requests, call, again=again):
                tell(total.done, total.remaining)
                if interrupted() and total.remaining:
                    break
            else:
                return total
    except grpc.RpcError:
        if total.done:
            output.print_note(f"{total.done} {done_word} before the call that failed: run it again for the rest")
        raise
    except KeyboardInterrupt as error:
        output.print_failure(f"stopped at once: {total.done} {done_word}, and perhaps those of the call under way")
        raise typer.Exit(1) from error
    output.print_failure(f"interrupted: {total.done} {done_word}, {total.remaining} left. Run it again for the rest")
    raise typer.Exit(1)


def in_chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut ids into what one call takes."""
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _totals(requests: Sequence[_Request], call: Callable[[_Request], Done], *, again: bool) -> Iterator[Done]:
    """What is done after each call."""
    done = skipped = 0
    for number, request in enumerate(requests, 1):
        others = (len(requests) - number) * CHUNK
        while True:
            answer = call(request)
            done += answer.done
            last = not again or not answer.remaining or not answer.done
            skipped += answer.skipped if last else 0  # each call tells anew of those that it passed over
            yield Done(done, answer.remaining + others, skipped)
            if last:
                break


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    screen = output.console(stderr=True)
    if not screen.is_terminal:
        yield lambda _done, _left: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, left: bar.update(task, completed=done, total=done + left)


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C be asked for instead of raised, so that the call under way ends; the second is raised."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
