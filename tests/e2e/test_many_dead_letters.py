"""Thousands of dead letters, by the command line, on the running pair."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from sred_email_local.sandbox.rules import Rule
from support.many_letters import multiply
from support.world import World, until

MANY = 1500


async def command_line(pair: World, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    address = next(service.address for service in pair.services if service.kind == "consumer")
    program = Path(sys.executable).with_name("sred-email")
    process = await asyncio.create_subprocess_exec(
        program, *words, "--address", address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_thousands_of_letters_are_sent_again_once_each_and_the_others_discarded(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(status=422, name="validation_error", message="bad", times=1))
    first = (await world.send("again")).email_id
    await world.wait_for(first, "FAILED")
    await multiply(world.pool, first, MANY - 1)
    await multiply(world.pool, first, MANY, reason="OUTCOME_UNKNOWN")
    code, out, err = await command_line(world, "dlq", "replay", "--all", "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"replayed": MANY, "skipped": MANY, "remaining": 0}), err
    assert "skipped: gone, or not to be replayed" in err

    async def all_are_out() -> bool:
        return bool(
            await world.pool.fetchval("SELECT count(*) = $1 FROM email_send_log WHERE sent_at IS NOT NULL", MANY)
        )

    await until(all_are_out, "each is sent", timeout_s=60)
    assert world.deliveries("again") == MANY
    code, out, err = await command_line(world, "dlq", "groups", "--json")
    (group,) = map(json.loads, out.splitlines())
    assert (code, group["letters"], group["group"]["reason"]) == (0, MANY, "OUTCOME_UNKNOWN")
    code, out, err = await command_line(world, "dlq", "discard", "--group", group["name"], "--yes", "--json")
    assert (code, json.loads(out), err) == (0, {"discarded": MANY, "remaining": 0}, "")
    audit = await world.pool.fetch("SELECT action, count FROM email_audit")
    counted = Counter[str]()
    for row in audit:
        counted[row["action"]] += row["count"]
    assert counted == {"REPLAY": MANY, "DISCARD": MANY}
