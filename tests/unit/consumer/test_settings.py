"""Settings of the consumer: defaults as in the contract, and bad values named on one line each."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.settings import ListenAddress, load_settings

GOOD = {
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://user:pass@localhost:5432/email",
    "SRED_EMAIL_REDIS_URL": "redis://localhost:6379/0",
    "SRED_EMAIL_AUTH": "off",
    "RESEND_API_KEY": "re_hunter2",
}
BAD_VALUES = {
    "SRED_EMAIL_POSTGRES_DSN": ["mysql://localhost/email"],
    "SRED_EMAIL_REDIS_URL": ["http://localhost"],
    "SRED_EMAIL_RESEND_BASE_URL": [
        *(
            "api.resend.com",
            "ftp://api.resend.com",
            "https://",
            "https://a b",
            "http://api.resend.com",
            "http://API.Resend.com/x",
        ),
    ],
    "SRED_EMAIL_RESEND_REQUESTS_PER_SECOND": ["-1", "-0.1", "many", "nan", "inf", "100001"],
    "SRED_EMAIL_RESEND_BATCH_SIZE": ["0", "-1", "101", "1.5", "all"],
    "SRED_EMAIL_CONSUMER_SLOTS": ["0", "-1", "1001", "1.5", "all"],
    "SRED_EMAIL_MAX_ATTEMPTS": ["0", "-1", "1001", "1.5", "ever"],
    "SRED_EMAIL_RETRY_BASE_DELAY": ["0", "-1", "nan", "soon"],
    "SRED_EMAIL_RETRY_MAX_DELAY": ["0", "-1", "inf", "late", "1"],
    "SRED_EMAIL_PROVIDER_TIMEOUT": ["0", "-1", "nan", "long"],
    "SRED_EMAIL_CLAIM_IDLE": ["0", "-1", "nan", "long", "15", "3"],
    "SRED_EMAIL_RETRY_HORIZON": ["0", "-1", "nan", "a day", "82800.1", "86400"],
    "SRED_EMAIL_PROBE_INTERVAL": ["0", "-1", "nan", "often"],
    "SRED_EMAIL_MAX_DELIVERIES": ["0", "-1", "1001", "1.5", "ever"],
    "SRED_EMAIL_RETENTION_DAYS": ["-1", "0.5", "0.99", "36501", "nan", "inf", "for ever"],
    "SRED_EMAIL_REDIRECT_ALL_TO": [
        "nobody",
        "@example.com",
        "a@",
        "a@b@c",
        "a@example.com,b@example.com",
        "A <a@example.com>",
        "a b@example.com",
        "a@" + "b" * 254,
    ],
    "SRED_EMAIL_CONSUMER_GRPC_LISTEN": ["50052", "localhost", "localhost:0", "localhost:65536"],
    "SRED_EMAIL_CONSUMER_HTTP_LISTEN": ["8081", "localhost", "localhost:0", "localhost:65536"],
}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str | None]) -> ConsumerSettings:
    for name, value in {**GOOD, **env}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    return load_settings(ConsumerSettings)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: Mapping[str, str | None]
) -> list[str]:
    with pytest.raises(SystemExit) as exit_:
        load(monkeypatch, env)
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err.splitlines()


def variables(lines: list[str]) -> list[str]:
    return sorted(line.split(":")[0] for line in lines)


def test_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {})
    assert settings.resend_base_url == "https://api.resend.com"
    assert settings.resend_requests_per_second == 10
    assert settings.resend_batch_size == 100
    assert settings.consumer_slots == 16
    assert (settings.max_attempts, settings.retry_base_delay, settings.retry_max_delay) == (
        8,
        timedelta(seconds=2),
        timedelta(seconds=3600),
    )
    assert (settings.provider_timeout, settings.claim_idle) == (timedelta(seconds=15), timedelta(seconds=60))
    assert settings.retry_horizon == timedelta(seconds=82800)
    assert settings.probe_interval == timedelta(seconds=15)
    assert settings.max_deliveries == 5
    assert settings.retention_days == timedelta(days=30)
    assert settings.redirect_all_to is None
    assert settings.drain_timeout == timedelta(seconds=25)
    assert settings.redis_prefix == "sred:email"
    assert settings.consumer_grpc_listen == ListenAddress("0.0.0.0", 50052)  # noqa: S104 - the contract says so
    assert settings.consumer_http_listen == ListenAddress("0.0.0.0", 8081)  # noqa: S104 - the contract says so


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name in BAD_VALUES for value in BAD_VALUES[name]])
def test_a_bad_variable_is_named_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    lines = refused(monkeypatch, capsys, {variable: value})
    assert variables(lines) == [variable]
    assert len(lines[0]) > len(variable) + len(": ")


@pytest.mark.parametrize("variable", ["SRED_EMAIL_POSTGRES_DSN", "SRED_EMAIL_REDIS_URL", "RESEND_API_KEY"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str | None
) -> None:
    lines = refused(monkeypatch, capsys, {variable: value})
    assert variables(lines) == [variable]
    assert "is required" in lines[0]


def test_every_mistake_is_named_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    env: dict[str, str | None] = {name: values[0] for name, values in BAD_VALUES.items()}
    env["RESEND_API_KEY"] = None
    assert variables(refused(monkeypatch, capsys, env)) == sorted(env)


def test_nothing_set_at_all_names_everything_that_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    required = {*GOOD} - {"SRED_EMAIL_AUTH"} | {"SRED_EMAIL_TOKENS_FILE"}  # unless auth is off
    assert variables(refused(monkeypatch, capsys, dict.fromkeys(GOOD))) == sorted(required)


def test_mistakes_between_variables_are_all_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SRED_EMAIL_CLAIM_IDLE": "10", "SRED_EMAIL_RETRY_MAX_DELAY": "1"}
    assert variables(refused(monkeypatch, capsys, env)) == sorted(env)


def test_mistakes_between_variables_are_named_together_with_mistakes_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SRED_EMAIL_CLAIM_IDLE": "10", "SRED_EMAIL_MAX_ATTEMPTS": "0"}
    assert variables(refused(monkeypatch, capsys, env)) == sorted(env)


def test_a_lease_as_long_as_an_attempt_is_too_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SRED_EMAIL_PROVIDER_TIMEOUT": "20", "SRED_EMAIL_CLAIM_IDLE": "20"}
    assert variables(refused(monkeypatch, capsys, env)) == ["SRED_EMAIL_CLAIM_IDLE"]


def test_a_lease_just_longer_than_an_attempt_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, {"SRED_EMAIL_PROVIDER_TIMEOUT": "20", "SRED_EMAIL_CLAIM_IDLE": "20.5"})


def test_no_value_is_printed_because_it_may_be_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = dict.fromkeys(BAD_VALUES, "hunter2 hunter2")
    lines = refused(monkeypatch, capsys, {**env, "RESEND_API_KEY": "re_hunter2"})
    assert variables(lines) == sorted(env)
    assert "hunter2" not in "\n".join(lines)


def test_no_secret_stands_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"SRED_EMAIL_POSTGRES_DSN": "postgresql://user:hunter2@localhost/email"})
    assert "hunter2" not in repr(settings) + str(settings)


def test_the_key_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"RESEND_API_KEY": None, "RESEND_API_KEY_FILE": "secrets/key"})
    assert settings.resend_api_key is None
    assert settings.resend_api_key_file == Path("secrets/key")


@pytest.mark.parametrize("key", ["re_hunter2\n", "re_hunter2\r\n", "re_\nhunter2"])
def test_a_key_that_no_header_can_carry_is_mended_or_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    if "\n" in key.strip():
        error = refused(monkeypatch, capsys, {"RESEND_API_KEY": key})
        assert variables(error) == ["RESEND_API_KEY"]
        assert "hunter2" not in "".join(error)
    else:
        assert load(monkeypatch, {"RESEND_API_KEY": key}).resend_api_key == "re_hunter2"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SRED_EMAIL_RESEND_REQUESTS_PER_SECOND", "0"),
        ("SRED_EMAIL_RESEND_REQUESTS_PER_SECOND", "0.5"),
        ("SRED_EMAIL_RESEND_BATCH_SIZE", "1"),
        ("SRED_EMAIL_RESEND_BATCH_SIZE", "100"),
        ("SRED_EMAIL_CONSUMER_SLOTS", "1"),
        ("SRED_EMAIL_MAX_ATTEMPTS", "1"),
        ("SRED_EMAIL_MAX_DELIVERIES", "1"),
        ("SRED_EMAIL_MAX_DELIVERIES", "1000"),
        ("SRED_EMAIL_RETRY_BASE_DELAY", "0.1"),
        ("SRED_EMAIL_RETRY_HORIZON", "82800"),
        ("SRED_EMAIL_RETRY_HORIZON", "0.5"),
        ("SRED_EMAIL_REDIRECT_ALL_TO", "staging@example.com"),
        ("SRED_EMAIL_RESEND_BASE_URL", "http://localhost:8080"),
        ("SRED_EMAIL_CONSUMER_GRPC_LISTEN", "[::]:50052"),
    ],
)
def test_values_at_their_limits_are_taken(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    load(monkeypatch, {variable: value})


@pytest.mark.parametrize(
    ("value", "kept"), [("0", timedelta()), ("1", timedelta(days=1)), ("1.5", timedelta(hours=36))]
)
def test_retention_is_in_days_which_may_be_fractions_and_0_is_for_ever(
    monkeypatch: pytest.MonkeyPatch, value: str, kept: timedelta
) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_RETENTION_DAYS": value}).retention_days == kept
