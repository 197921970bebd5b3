"""Real emails among the garbage, and what holds them back for a while."""

import itertools
import time

from crash.bad_input.entries import letters_are_shown
from support.world import World, until

_numbers = itertools.count(1)


class RealEmails:
    """Each is to be delivered once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ids: dict[str, str] = {}

    async def send(self, *, priority: int = 0) -> str:
        """Have one accepted; its id."""
        subject = f"real {next(_numbers)}"
        self.ids[subject] = (await self._world.send(subject, priority=priority)).email_id
        return self.ids[subject]

    async def assert_delivered_once(self) -> None:
        """Each has reached its recipient, once, and nothing is left in Redis but dead letters, each shown once."""
        for email_id in self.ids.values():
            await self._world.wait_for(email_id, "SUCCESS", timeout_s=20)
        await self._world.assert_redis_is_clean()
        assert {self._world.deliveries(subject) for subject in self.ids} == {1}
        await until(lambda: letters_are_shown(self._world), "the DLQ shows the dead letters")


async def hold(world: World) -> None:
    """Let nothing be taken."""
    now_ms = int(time.time() * 1000)
    held: dict[str | bytes | int | float, str | bytes | int | float]
    held = {"state": "PAUSED", "reason": "a test", "set": now_ms, "until": now_ms + 600_000}
    await world.redis.hset(world.keys.dispatch, mapping=held)  # type: ignore[arg-type]


async def go_on(world: World) -> None:
    """Let everything be taken."""
    await world.redis.delete(world.keys.dispatch)
