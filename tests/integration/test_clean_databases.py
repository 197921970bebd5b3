"""The databases that tests are lent: the same one again, as if it were new."""

import asyncpg
import pytest

from support.clean_databases import CleanDatabases

LEAVE = "INSERT INTO email_audit (call_id, actor, action) VALUES (gen_random_uuid(), 'ada', 'PAUSE') RETURNING sequence"


@pytest.fixture(autouse=True)
def lent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database has been lent so often that it is dropped for that."""
    monkeypatch.setattr("support.clean_databases._MOST_LOANS", 10**6)


async def test_what_a_test_left_is_gone_and_who_was_connected_with_it(databases: CleanDatabases) -> None:
    name = await databases.lend()
    staying = await asyncpg.connect(databases.dsn(name))
    assert await staying.fetchval(LEAVE) == 1
    await databases.take_back(name)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await staying.fetch("SELECT 1")
    again = await databases.lend()
    assert again == name
    looking = await asyncpg.connect(databases.dsn(again))
    assert await looking.fetchval("SELECT count(*) FROM email_audit") == 0
    assert await looking.fetchval("SELECT count(*) FROM email_events_mark") == 1
    assert await looking.fetchval(LEAVE) == 1
    await looking.close()
    await databases.take_back(again)


@pytest.mark.parametrize(
    "change",
    ["CREATE TABLE mine (n int)", "ALTER TABLE email_send_log SET (fillfactor = 70)", "DROP TABLE email_audit"],
)
async def test_a_database_whose_tables_were_changed_is_not_lent_again(databases: CleanDatabases, change: str) -> None:
    name = await databases.lend()
    changing = await asyncpg.connect(databases.dsn(name))
    await changing.execute(change)
    await databases.take_back(name)
    assert await databases.lend() != name
