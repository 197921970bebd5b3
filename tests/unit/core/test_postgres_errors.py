"""What errors of PostgreSQL mean, by their SQLSTATE."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from sred_email_core.errors import LogUnavailableError, UnstorableError
from sred_email_core.postgres import is_conflict, is_unavailable, run

NOT_NOW = [
    "08000",  # connection_exception
    "08006",  # connection_failure
    "08P01",  # protocol_violation
    "25006",  # read_only_sql_transaction: a standby
    "25P03",  # idle_in_transaction_session_timeout
    "53100",  # disk_full
    "53200",  # out_of_memory
    "53300",  # too_many_connections
    "55P03",  # lock_not_available
    "57014",  # query_canceled: statement_timeout
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "58030",  # io_error
    "28P01",  # invalid_password: rotated
    "3D000",  # invalid_catalog_name: not created yet
    "42P01",  # undefined_table: not migrated yet
    "42501",  # insufficient_privilege: not granted yet
    "26000",  # invalid_sql_statement_name: behind a pooler
]
CONFLICTS = ["40001", "40P01", "40003"]
DATA = ["22001", "22021", "22P05", "23502", "23505", "23514", "54000"]
BUGS = ["42601", "42703", "42804", "0A000", "XX000"]


def error(sqlstate: str) -> asyncpg.PostgresError:
    """As the driver makes it from the server's message."""
    made = asyncpg.PostgresError.new({"C": sqlstate, "M": "what the server says", "S": "ERROR"})
    assert isinstance(made, asyncpg.PostgresError)
    assert made.sqlstate == sqlstate
    return made


def failing(*errors: Exception) -> tuple[list[int], Callable[[], Awaitable[str]]]:
    """An operation that raises these errors, one a call, and then succeeds; and its calls."""
    calls: list[int] = []

    async def operation() -> str:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return calls, operation


@pytest.mark.parametrize("sqlstate", NOT_NOW)
def test_a_server_that_can_not_serve_now_is_unavailable(sqlstate: str) -> None:
    assert is_unavailable(error(sqlstate))
    assert not is_conflict(error(sqlstate))


@pytest.mark.parametrize("sqlstate", CONFLICTS)
def test_transactions_in_each_others_way_are_a_conflict(sqlstate: str) -> None:
    assert is_conflict(error(sqlstate))
    assert not is_unavailable(error(sqlstate))


@pytest.mark.parametrize("sqlstate", [*DATA, *BUGS])
def test_bad_values_and_bugs_are_neither(sqlstate: str) -> None:
    assert not is_unavailable(error(sqlstate))
    assert not is_conflict(error(sqlstate))


@pytest.mark.parametrize(
    "lost",
    [
        ConnectionRefusedError("refused"),
        ConnectionResetError("reset"),
        OSError("no route"),
        TimeoutError(),
        EOFError(),
        asyncpg.InterfaceError("the connection is closed"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed"),
    ],
)
def test_a_connection_that_fails_is_unavailable(lost: Exception) -> None:
    assert is_unavailable(lost)
    assert not is_conflict(lost)


@pytest.mark.parametrize("other", [ValueError("x"), KeyError("x"), RuntimeError("x"), asyncpg.PostgresError("x")])
def test_other_exceptions_are_neither(other: Exception) -> None:
    assert not is_unavailable(other)
    assert not is_conflict(other)


async def test_what_succeeds_is_run_once() -> None:
    calls, operation = failing()
    assert await run(operation) == "done"
    assert len(calls) == 1


@pytest.mark.parametrize("sqlstate", CONFLICTS)
async def test_a_conflict_is_settled_by_running_again(sqlstate: str) -> None:
    calls, operation = failing(*[error(sqlstate)] * 4)
    assert await run(operation) == "done"
    assert len(calls) == 5


async def test_a_conflict_that_does_not_end_is_for_later() -> None:
    calls, operation = failing(*[error("40P01")] * 99)
    with pytest.raises(LogUnavailableError) as raised:
        await run(operation)
    assert len(calls) == 5
    assert isinstance(raised.value.__cause__, asyncpg.DeadlockDetectedError)


@pytest.mark.parametrize("lost", [error("57P01"), ConnectionResetError("reset"), TimeoutError()])
async def test_an_unavailable_server_is_not_asked_again_here(lost: Exception) -> None:
    calls, operation = failing(lost)
    with pytest.raises(LogUnavailableError, match=r"PostgreSQL: .+") as raised:
        await run(operation)
    assert len(calls) == 1
    assert raised.value.__cause__ is lost


@pytest.mark.parametrize("sqlstate", DATA)
async def test_a_value_that_is_refused_is_unstorable(sqlstate: str) -> None:
    calls, operation = failing(error(sqlstate))
    with pytest.raises(UnstorableError):
        await run(operation)
    assert len(calls) == 1


@pytest.mark.parametrize("bug", [error("42601"), ValueError("x")])
async def test_a_bug_surfaces_as_it_is(bug: Exception) -> None:
    _, operation = failing(bug)
    with pytest.raises(type(bug)) as raised:
        await run(operation)
    assert raised.value is bug
