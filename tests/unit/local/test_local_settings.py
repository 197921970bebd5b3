"""Ports, folder and environment of a local run."""

import socket
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from sred_email_core.access.tokens import Scope, parse_tokens
from sred_email_local.local_token import local_token
from sred_email_local.ports import PortTakenError, PortUse, check_free, free_port, is_free
from sred_email_local.service_environment import service_environment
from sred_email_local.settings import LocalSettings, Ports, SettingsError, read_settings

OURS, OUR_KEY = Path("/ours/tokens"), Path("/ours/key")


def environment_of(settings: LocalSettings) -> dict[str, str]:
    tokens = OURS if settings.uses_token else None
    return service_environment(settings, "postgresql://there", "redis://there", tokens, OUR_KEY)


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = read_settings({})
    assert astuple(settings.ports) == (50051, 8080, 50052, 8081, 8082, 8025, 55432, 56379)
    assert settings.folder == Path.cwd() / ".local"
    assert settings.uses_sandbox


def test_each_port_has_its_variable_and_0_stands_for_a_free_one() -> None:
    settings = read_settings({"SRED_EMAIL_LOCAL_INGRESS_HTTP_PORT": "1234", "SRED_EMAIL_LOCAL_VALKEY_PORT": "0"})
    assert settings.ports.ingress_http == 1234
    assert settings.ports.valkey not in (0, Ports().valkey)


def test_every_bad_variable_is_named() -> None:
    bad = {"SRED_EMAIL_LOCAL_SANDBOX_PORT": "x", "SRED_EMAIL_LOCAL_POSTGRES_PORT": "65536"}
    with pytest.raises(SettingsError) as caught:
        read_settings(bad)
    assert all(name in str(caught.value) for name in bad)


def test_a_taken_port_is_named_with_its_purpose_and_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        uses = replace(Ports(), consumer_http=port).uses(sandbox=True, console=True)
        with pytest.raises(PortTakenError) as caught:
            check_free(use for use in uses if use.port == port)
    message = f"port {port}, for the consumer's HTTP, is taken: set SRED_EMAIL_LOCAL_CONSUMER_HTTP_PORT to another one"
    assert str(caught.value) == message


def test_a_port_wanted_twice_is_refused() -> None:
    port = free_port()
    with pytest.raises(PortTakenError, match=f"port {port} is wanted for one and two: set B"):
        check_free([PortUse(port, "one", "A"), PortUse(port, "two", "B")])


def test_a_port_that_was_in_use_a_moment_ago_is_free() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        accepted.close()  # this side closes first, and so stays in TIME_WAIT
        assert client.recv(1) == b""
    assert is_free(port)


def test_the_sandbox_port_does_not_matter_without_the_sandbox() -> None:
    assert {use.variable for use in Ports().uses(sandbox=True, console=True)} - {
        use.variable for use in Ports().uses(sandbox=False, console=True)
    } == {"SRED_EMAIL_LOCAL_SANDBOX_PORT"}


def test_services_are_bound_to_this_machine_and_to_the_sandbox() -> None:
    environment = environment_of(read_settings({"PATH": "/bin", "SRED_EMAIL_REDIS_URL": "redis://production"}))
    assert environment["PATH"] == "/bin"
    assert environment["SRED_EMAIL_REDIS_URL"] == "redis://there"
    assert environment["SRED_EMAIL_RESEND_BASE_URL"] == "http://127.0.0.1:8025"
    assert environment["RESEND_API_KEY_FILE"] == str(OUR_KEY)
    assert environment["SRED_EMAIL_DEFAULT_FROM"] == "SREDSimplify <hello@sredsimplify.example>"
    listening = [value for name, value in environment.items() if name.endswith("_LISTEN")]
    assert len(listening) == 4
    assert all(value.startswith("127.0.0.1:") for value in listening)


def test_with_a_key_of_resend_emails_go_to_resend() -> None:
    environment = environment_of(read_settings({"RESEND_API_KEY": "re_real"}))
    assert environment["RESEND_API_KEY"] == "re_real"
    assert "SRED_EMAIL_RESEND_BASE_URL" not in environment
    assert environment["SRED_EMAIL_DEFAULT_FROM"].endswith("<onboarding@resend.dev>")


def test_a_key_file_or_a_certificate_of_elsewhere_is_left_out() -> None:
    elsewhere = {"RESEND_API_KEY_FILE": "/key", "SRED_EMAIL_TLS_CERT_FILE": "/cert", "SRED_EMAIL_TOKEN": "x"}
    assert not set(elsewhere.items()) & set(environment_of(read_settings(elsewhere)).items())
    assert "RESEND_API_KEY_FILE" not in environment_of(read_settings({**elsewhere, "RESEND_API_KEY": "re_real"}))


def test_callers_show_a_token_of_this_run_unless_off_was_said() -> None:
    environment = environment_of(read_settings({"SRED_EMAIL_TOKENS_FILE": "/elsewhere"}))
    assert (environment["SRED_EMAIL_AUTH"], environment["SRED_EMAIL_TOKENS_FILE"]) == ("tokens", str(OURS))
    environment = environment_of(read_settings({"SRED_EMAIL_AUTH": "off"}))
    assert environment["SRED_EMAIL_AUTH"] == "off"
    assert "SRED_EMAIL_TOKENS_FILE" not in environment


def test_the_token_of_a_folder_stays_and_the_services_know_its_digest(tmp_path: Path) -> None:
    made = local_token(tmp_path)
    assert local_token(tmp_path) == made
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0
    assert made.token not in made.tokens_file.read_text()
    grant = parse_tokens(made.tokens_file.read_text()).find(made.token)
    assert grant is not None
    assert grant.scopes == set(Scope)


def test_preferences_of_the_caller_stay() -> None:
    preferences = {"SRED_EMAIL_LOG_FORMAT": "json", "SRED_EMAIL_RESEND_BATCH_SIZE": "1"}
    assert preferences.items() <= environment_of(read_settings(preferences)).items()
