"""docs/security.md says what the services ask of their callers, and where they stop."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from sred_email_consumer.scopes import SCOPES as OF_CONSUMER
from sred_email_core import call_requests, grpc_server
from sred_email_core.access.tokens import Scope, parse_tokens
from sred_email_ingress.scopes import SCOPES as OF_INGRESS
from sred_email_operator.__main__ import app
from sred_email_operator.console.services import Changes, Reads

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "security.md").read_text(encoding="utf-8")
SCOPES = {**OF_INGRESS, **OF_CONSUMER}


def scopes_of_the_console() -> set[Scope]:
    """What the calls need that it makes."""
    calls = [*get_type_hints(Reads).values(), *get_type_hints(Changes).values()]
    requests = [get_args(call)[0].DESCRIPTOR.name for call in calls]
    return {SCOPES[request.removesuffix("Request")] for request in requests}


def test_the_table_of_scopes_names_each_rpc_where_it_belongs() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+(?:[,;] \w+)*) \|$", PAGE, re.MULTILINE)
    documented = {rpc: Scope(scope) for scope, rpcs in rows for rpc in re.split("[,;] ", rpcs)}
    assert documented == SCOPES


def test_the_example_is_a_file_that_the_services_take_and_its_console_may_do_all_that_consoles_do() -> None:
    (example,) = re.findall(r"^```\n(# name .+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    parse_tokens(example)
    (scopes,) = re.findall(r"^console +(\S+)", example, re.MULTILINE)
    assert {Scope(scope) for scope in scopes.split(",")} == scopes_of_the_console()


@pytest.mark.parametrize("where", ["deploy.md", "token new --help"])
def test_whoever_makes_a_token_for_the_console_is_told_to_let_it_do_all_that(where: str) -> None:
    text = CliRunner().invoke(app, ["token", "new", "--help"]).stdout if "help" in where else (DOCS / where).read_text()
    (scopes,) = re.findall(r"--name console\s+--scopes (\S+)", text)
    assert {Scope(scope) for scope in scopes.split(",")} == scopes_of_the_console()


def test_the_table_of_limits_has_those_of_the_server() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE))
    options = dict(grpc_server.SERVER_OPTIONS)
    limits = {
        "one gRPC message, in either direction": f"{grpc_server.MAX_MESSAGE_BYTES >> 20} MB",
        "a request on its way, of calls that send one": f"{call_requests.PATIENCE.total_seconds():g} s",
        "streams of one connection": f"{options['grpc.max_concurrent_streams']:,}",
        "a connection before its first frame, TLS included": f"{options['grpc.server_handshake_timeout_ms'] // 1000} s",
        "pings of a client": f"one in {options['grpc.http2.min_ping_interval_without_data_ms'] // 1000} s",
        "a client that does not answer pings": f"{options['grpc.keepalive_time_ms'] // 1000} + "
        f"{options['grpc.keepalive_timeout_ms'] // 1000} s",
        "the age of a connection": f"{options['grpc.max_connection_age_ms'] // 60_000} min",
    }
    for what, limit in limits.items():
        assert re.match(re.escape(limit) + r"\b", rows[what]), what
