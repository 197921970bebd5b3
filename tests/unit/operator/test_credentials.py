"""What the command line shows the services, and the tokens that it makes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sred_email_core.access.tokens import Scope, parse_tokens
from sred_email_operator.__main__ import app
from sred_email_operator.commands.token import SCOPES
from support.access_files import Certificates


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_new_token_is_one_that_the_services_take(as_json: bool) -> None:
    result = run("token", "new", "--name", "shop", "--scopes", "send,read", *(["--json"] if as_json else []))
    assert result.exit_code == 0
    token, line = json.loads(result.stdout).values() if as_json else result.stdout.splitlines()
    grant = parse_tokens(line).find(token)
    assert grant is not None
    assert grant.caller == "shop"
    assert grant.scopes == {Scope.SEND, Scope.READ}
    assert token not in line
    assert len(token) > 40


def test_no_token_is_made_twice() -> None:
    assert len({run("token", "new", "--name", "a", "--scopes", "read").stdout for _ in range(5)}) == 5


def test_the_scopes_are_those_of_the_services() -> None:
    assert set(SCOPES) == {scope.value for scope in Scope}


@pytest.mark.parametrize(("name", "scopes"), [("a b", "send"), ("", "send"), ("shop", ""), ("shop", "send,write")])
def test_a_token_that_the_services_would_refuse_is_not_made(name: str, scopes: str) -> None:
    result = run("token", "new", "--name", name, "--scopes", scopes)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize("address", ["10.0.0.1:50052", "mail.example.com:50052", "dns:///consumer:50052"])
def test_a_token_is_not_sent_unencrypted_to_another_machine(address: str) -> None:
    result = run("stats", "--address", address, SRED_EMAIL_TOKEN="secret-token")
    assert result.exit_code == 2
    assert "SRED_EMAIL_TLS_CA_FILE" in result.stderr
    assert "secret-token" not in result.stderr


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"SRED_EMAIL_TOKEN": "a", "SRED_EMAIL_TOKEN_FILE": "b"}, "SRED_EMAIL_TOKEN_FILE"),
        ({"SRED_EMAIL_TOKEN_FILE": "/nowhere"}, "SRED_EMAIL_TOKEN_FILE"),
        ({"SRED_EMAIL_TOKEN": "two words"}, "SRED_EMAIL_TOKEN"),
        ({"SRED_EMAIL_TLS_CA_FILE": "/nowhere"}, "SRED_EMAIL_TLS_CA_FILE"),
        ({"SRED_EMAIL_TLS_CLIENT_CERT_FILE": "/nowhere"}, "SRED_EMAIL_TLS_CA_FILE"),
        ({"SRED_EMAIL_PLAINTEXT_TOKEN": "maybe"}, "SRED_EMAIL_PLAINTEXT_TOKEN"),
    ],
)
def test_credentials_that_cannot_be_used_are_named(environment: dict[str, str], named: str) -> None:
    result = run("stats", "--address", "localhost:1", **environment)
    assert result.exit_code == 2
    assert named in result.stderr
    assert "two words" not in result.stderr


def test_a_certificate_without_its_key_is_named(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    own, _ = certificates.issue("ops")
    environment = {"SRED_EMAIL_TLS_CA_FILE": str(certificates.ca), "SRED_EMAIL_TLS_CLIENT_CERT_FILE": str(own)}
    result = run("stats", "--address", "localhost:1", **environment)
    assert result.exit_code == 2
    assert "SRED_EMAIL_TLS_CLIENT_KEY_FILE" in result.stderr
