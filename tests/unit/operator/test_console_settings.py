"""What the environment says about the console, and what a console that only looks is made of."""

import dataclasses

import pytest

from sred.email.v1 import dispatch_service_pb2, operations_service_pb2
from sred_email_operator.console.app import build_app
from sred_email_operator.console.services import Changes, Peer, Reads, changes_of, reads_of
from sred_email_operator.console.settings import ConsoleSettings, Login, SettingsError, read_settings

TOKEN = "a-token-that-is-long-enough"


class Stub:
    """Has every method, and says which one."""

    def __getattr__(self, name: str) -> str:
        return name


def called(parts: Reads | Changes) -> set[str]:
    """The methods that calls make."""
    return {getattr(parts, field.name)._method for field in dataclasses.fields(parts)}  # noqa: SLF001 - what it is about


def test_without_a_token_a_console_that_others_reach_does_not_start_and_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match="SRED_EMAIL_CONSOLE_TOKEN: or SRED_EMAIL_CONSOLE_TOKEN_FILE is required"):
        read_settings({"SRED_EMAIL_CONSOLE_LISTEN": "0.0.0.0:8082"})


def test_on_this_machine_alone_each_run_makes_a_token_of_its_own() -> None:
    first, second = read_settings({}), read_settings({"SRED_EMAIL_CONSOLE_LISTEN": "[::1]:8082"})
    assert first.token_is_made
    assert len(first.token) >= 32
    assert first.token != second.token
    assert not read_settings({"SRED_EMAIL_CONSOLE_TOKEN": TOKEN}).token_is_made


def test_every_bad_variable_is_named_on_a_line_and_no_value_is() -> None:
    bad = {"LISTEN": "here", "LOGIN": "maybe", "READ_ONLY": "perhaps", "PUBLIC_URL": "email.example.com/console"}
    with pytest.raises(SettingsError) as caught:
        read_settings({f"SRED_EMAIL_CONSOLE_{name}": value for name, value in bad.items()})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"SRED_EMAIL_CONSOLE_{name}" for name in bad]
    assert not [value for value in bad.values() if value in str(caught.value)]


@pytest.mark.parametrize("url", ["http://[", "https://[::1", "ftp://email.example.com", "email.example.com"])
def test_a_public_url_that_is_none_is_refused_in_words(url: str) -> None:
    with pytest.raises(SettingsError, match="SRED_EMAIL_CONSOLE_PUBLIC_URL: must be scheme and host"):
        read_settings({"SRED_EMAIL_CONSOLE_PUBLIC_URL": url})


def test_a_short_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="16 characters or more"):
        read_settings({"SRED_EMAIL_CONSOLE_TOKEN": "short"})


def test_the_proxys_header_has_to_be_named() -> None:
    with pytest.raises(SettingsError, match="SRED_EMAIL_CONSOLE_USER_HEADER: must name the header"):
        read_settings({"SRED_EMAIL_CONSOLE_LOGIN": "proxy"})


def test_what_was_set_is_read() -> None:
    settings = read_settings(
        {
            "SRED_EMAIL_CONSOLE_LISTEN": "[::1]:9000",
            "SRED_EMAIL_CONSOLE_TOKEN": TOKEN,
            "SRED_EMAIL_CONSOLE_READ_ONLY": "true",
            "SRED_EMAIL_CONSOLE_PUBLIC_URL": "https://Email.example.com/",
        }
    )
    assert (settings.host, settings.port, settings.token, settings.read_only) == ("::1", 9000, TOKEN, True)
    assert settings.public_url == "https://email.example.com"
    assert settings.secure


def test_every_call_of_the_contract_either_reads_or_changes_something() -> None:
    peer, stub = Peer("both", "nowhere"), Stub()
    reads, changes = called(reads_of(stub, stub, peer, peer)), called(changes_of(stub, stub, peer, peer))  # type: ignore[arg-type]
    assert not reads & changes
    assert not [name for name in reads if not name.startswith(("Get", "List"))]
    services = [
        dispatch_service_pb2.DESCRIPTOR.services_by_name["EmailDispatchService"],
        operations_service_pb2.DESCRIPTOR.services_by_name["EmailOperationsService"],
    ]
    names = {method.name for service in services for method in service.methods}
    assert names - reads - changes == {"SendEmail", "BatchSendEmails", "StreamSendEmails", "WatchEmails"}


@pytest.mark.parametrize("login", list(Login))
async def test_a_console_that_only_looks_takes_no_form_but_those_of_the_door(login: Login) -> None:
    settings = ConsoleSettings(login=login, token=TOKEN, user_header="X-User", read_only=True)
    peer, stub = Peer("both", "nowhere"), Stub()
    app = build_app(settings, reads_of(stub, stub, peer, peer), None)  # type: ignore[arg-type]
    taken = {str(route.resource) for route in app.router.routes() if route.method not in ("GET", "HEAD")}
    door = {"<PlainResource  /login>", "<PlainResource  /logout>"}
    assert taken == (door if login is Login.TOKEN else set())
