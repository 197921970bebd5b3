"""Notices that Redis is another one than before."""

from dataclasses import dataclass

from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner


@dataclass(frozen=True, slots=True)
class EpochState:
    """Which Redis this is, and in which one the queue was last found complete.

    Attributes:
        redis_id: Of this one: its run and its replication.
        held: What the epoch holds: such an id, or a sweep that is under way; empty: nothing.
    """

    redis_id: str
    held: str

    @property
    def changed(self) -> bool:
        """Whether this Redis may have forgotten something since the last complete sweep."""
        return self.held != self.redis_id

    def is_sweep(self, name: str) -> bool:
        """Whether the sweep of this name is under way, and this is still the Redis in which it began."""
        return self.held == f"{self.redis_id} sweep {name}"


class Epoch:
    """Remembers in Redis itself that the queue is complete: what forgets emails forgets that, too."""

    def __init__(self, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._run = runner.run
        self._key = keys.epoch

    async def look(self) -> EpochState:
        """How it is now."""
        return await self._epoch("look", "")

    async def begin(self, sweep: str) -> EpochState:
        """Say that a sweep of this name begins."""
        return await self._epoch("begin", sweep)

    async def seal(self, sweep: str) -> EpochState:
        """Say that this sweep has seen everything; that counts only if nothing was forgotten since it began."""
        return await self._epoch("seal", sweep)

    async def _epoch(self, what: str, sweep: str) -> EpochState:
        redis_id, held = await self._run("epoch", [self._key], [what, sweep])
        return EpochState(redis_id.decode(), held.decode("utf-8", "replace"))
