"""Whether an open email needs a key is found out page by page, and without its content."""

import uuid

from integration.core.log_builder import LogWorld

from sred_email_core.email_send_log.key_use import KeyNeed
from sred_email_core.encryption.envelope import seal, to_stored
from sred_email_core.encryption.key_ring import EncryptionKey

ONE, OTHER_ONE, TEN = EncryptionKey("1", b"1" * 32), EncryptionKey("1", b"x" * 32), EncryptionKey("10", b"1" * 32)


def message(key: EncryptionKey) -> bytes:
    return to_stored(seal(key, "an email", b"content", has_attachments=False, sender_domain="example.com"))


async def test_only_an_open_email_with_this_very_key_needs_it(world_of_log: LogWorld) -> None:
    await world_of_log.accept(2)
    await world_of_log.accept(message=message(TEN))
    (needs_one,) = await world_of_log.accept(message=message(ONE))
    need = KeyNeed(world_of_log.pool)
    assert await need.may_be(ONE.id, ONE.check)
    assert not await need.may_be(OTHER_ONE.id, OTHER_ONE.check)
    assert await need.may_be(TEN.id, TEN.check)
    end = "UPDATE email_send_log SET status = 'FAILED', ended_at = now() WHERE id = $1"
    await world_of_log.pool.execute(end, uuid.UUID(needs_one))  # a dead letter keeps its content, and stops nobody
    assert not await need.may_be(ONE.id, ONE.check)


async def test_each_look_goes_on_where_the_last_one_ended_until_nothing_is_left(world_of_log: LogWorld) -> None:
    await world_of_log.accept(4)
    (last,) = await world_of_log.accept(message=message(ONE))
    need = KeyNeed(world_of_log.pool, page=2)
    assert [await need.may_be(ONE.id, ONE.check) for _ in range(5)] == [True] * 5
    assert [await need.may_be(OTHER_ONE.id, OTHER_ONE.check) for _ in range(4)] == [True, True, False, True]
    await world_of_log.pool.execute("DELETE FROM email_send_log WHERE id = $1", uuid.UUID(last))
    assert [await need.may_be(ONE.id, ONE.check) for _ in range(3)] == [True, False, True]
