"""Encryption on real processes: keys change under load, one is missing for a while, and every email arrives once."""

import asyncio
import base64
import sys
from pathlib import Path

from support.world import World, until

ONE, TWO = (f"{name} {base64.b64encode(name.encode() * 32).decode()}\n" for name in ("1", "2"))


class Ring:
    """A file of keys, replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def hold(self, *keys: str) -> None:
        """Let it hold these lines from now on."""
        new = self.file.with_suffix(".new")
        new.write_text("".join(keys))
        new.rename(self.file)


async def keys_command(world: World, ring: Ring) -> tuple[int | None, str]:
    """What ``sred-email-ingress keys`` says, and its exit code."""
    program = Path(sys.executable).parent / "sred-email-ingress"
    env = {**world.env, "SRED_EMAIL_ENCRYPTION_KEYS_FILE": str(ring.file)}
    process = await asyncio.create_subprocess_exec(program, "keys", env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_keys_change_under_load_one_is_missing_for_a_while_and_every_email_arrives_once(
    world: World, tmp_path: Path
) -> None:
    senders, readers = Ring(tmp_path / "senders"), Ring(tmp_path / "readers")
    senders.hold(ONE)
    readers.hold(ONE)
    ingress, consumer = (
        world.launch("ingress", SRED_EMAIL_ENCRYPTION_KEYS_FILE=str(senders.file)),
        world.launch("consumer", SRED_EMAIL_ENCRYPTION_KEYS_FILE=str(readers.file)),
    )
    await asyncio.gather(ingress.ready(), consumer.ready())
    sent: list[tuple[str, str]] = []
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            subject = f"mail {len(sent)}"
            sent.append((subject, (await world.send(subject)).email_id))
            await asyncio.sleep(0.01)

    loading = asyncio.create_task(load())
    senders.hold(TWO, ONE)  # too early: nobody can read it yet
    body = await consumer.ready(503)
    assert 'the encryption key "2" is missing' in body["dispatch_reason"]
    code, told = await keys_command(world, readers)
    assert code == 1
    assert "is not in the file" in told
    readers.hold(ONE, TWO)
    await consumer.ready()
    readers.hold(TWO, ONE)
    senders.hold(TWO)
    before = len(sent)
    await until(lambda: _grew(sent, before + 20), "twenty more emails are sent")
    stop.set()
    await loading
    for subject, email_id in sent:
        assert await world.wait_for(email_id, timeout_s=30) == "SUCCESS"
        assert world.deliveries(subject) == 1
    assert len(sent) > 20
    assert await world.pool.fetchval("SELECT count(*) FROM email_dead_letters") == 0
    assert await world.pool.fetchval("SELECT max(attempts) FROM email_send_log") == 1
    await world.assert_redis_is_clean()
    code, told = await keys_command(world, readers)
    assert (code, told.split()) == (0, ["KEY", "EMAILS", "2", "0", "for", "new", "emails", "1", "0"])
    assert ONE.split()[1] not in (world.folder / "consumer0.log").read_text()


async def _grew(sent: list[tuple[str, str]], wanted: int) -> bool:
    return len(sent) >= wanted
