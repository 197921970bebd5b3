"""One child program: started in a session of its own, stopped or killed, and never left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.01
_KILLED_WITHIN_S = 10.0
_TAIL_BYTES = 65_536


class ProcessError(Exception):
    """A child program failed; the message ends with the last lines of its log."""


class Process:
    """A program that runs beside this one, can be killed and started again, and ends when this process ends.

    It leads a session of its own: Ctrl-C at the terminal does not reach it. On Linux it is signalled when the thread
    that started it ends, however that happens, so start it from a thread that lives on (the main one).

    Args:
        name: What people call it; stands in messages.
        argv: Path of the program, and its arguments.
        env: Its whole environment.
        log: File that its output is appended to.
        user: Name of the user it runs as; the present one if None.
        death_signal: What it gets when this process dies.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        user: str | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.argv = [str(argument) for argument in argv]
        self.env = dict(env)
        self.log = log
        self._user = user
        self._death_signal = death_signal
        self._child: subprocess.Popen[bytes] | None = None
        self._killed = False

    def start(self) -> None:
        """Start the program; returns before it is ready.

        Raises:
            ProcessError: It runs already.
        """
        if self.alive:
            raise ProcessError(f"{self.name} runs already")
        self._killed = False
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]
        target = [str(os.getpid()), str(int(self._death_signal)), self._user or "", *self.argv]
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*launcher, *target],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the program started last.

        Raises:
            ProcessError: It was never started.
        """
        if self._child is None:
            raise ProcessError(f"{self.name} was not started")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs and before the first start."""
        return None if self._child is None else self._child.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself; nothing happens if it has ended."""
        if self._child is not None:
            self._child.send_signal(number)

    async def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; the exit code, or None if it still runs then."""
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.alive or time.monotonic() > deadline:
                return self.exit_code
            await asyncio.sleep(_POLL_S)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, grace_s: float = 10.0) -> int | None:
        """Ask the program to end, and kill it if it has not within the grace time.

        Args:
            number: The signal that asks.
            grace_s: Seconds it has.

        Returns:
            The exit code; None if it was never started.
        """
        self.send_signal(number)
        self.send_signal(signal.SIGCONT)  # a paused program would not hear the first one
        try:
            await self.wait(grace_s)
        finally:
            self.kill()
        return self.exit_code

    def kill(self) -> None:
        """End the program and all that it started at once, as a power cut would; returns when they are gone."""
        if self._child is None or self._killed:
            return
        descendants: list[psutil.Process] = []
        if self.alive:
            with contextlib.suppress(psutil.Error):
                descendants = psutil.Process(self._child.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        for descendant in descendants:
            with contextlib.suppress(psutil.Error):
                descendant.kill()
        self._child.wait()
        self._killed = True  # from here on its process id may be another's
        _wait_until_gone(descendants)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return tail(self.log, lines)

    def failure(self, what: str) -> ProcessError:
        """An error that says what went wrong and shows the end of the log."""
        code = self.exit_code
        ended = "" if code is None else f" (it ended with {describe_exit(code)})"
        return ProcessError(f"{self.name} {what}{ended}; the end of its log:\n{self.log_tail() or '(nothing)'}")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; empty if there is none."""
    try:
        with log.open("rb") as content:
            content.seek(max(0, content.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = content.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def describe_exit(code: int) -> str:
    """An exit code in words: 'exit code 2' or 'signal SIGKILL'."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    deadline = time.monotonic() + _KILLED_WITHIN_S
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
