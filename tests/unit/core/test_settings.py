"""Settings that both services read: defaults, and bad values named on one line each."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from sred_email_core.settings import Listen, ListenAddress, ServiceSettings, load_settings
from support.access_files import Certificates, token_line

GOOD = {
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://user:pass@localhost:5432/email",
    "SRED_EMAIL_REDIS_URL": "redis://localhost:6379/0",
    "SRED_EMAIL_AUTH": "off",
}


class Listening(BaseSettings):
    """Something that listens."""

    model_config = SettingsConfigDict(env_prefix="SRED_EMAIL_")

    at: Listen


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str | None]) -> ServiceSettings:
    for name, value in {**GOOD, **env}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    return load_settings(ServiceSettings)


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
    assert settings.redis_prefix == "sred:email"
    assert settings.drain_timeout == timedelta(seconds=25)
    assert settings.log_level == "INFO"
    assert settings.log_format is None
    assert settings.tls_cert_file is None
    assert settings.tls_key_file is None
    assert settings.tls_client_ca_file is None


def test_authentication_is_on_unless_off_is_said() -> None:
    assert ServiceSettings.model_fields["auth"].default == "tokens"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SRED_EMAIL_POSTGRES_DSN", None),
        ("SRED_EMAIL_POSTGRES_DSN", ""),
        ("SRED_EMAIL_POSTGRES_DSN", "mysql://localhost/email"),
        ("SRED_EMAIL_POSTGRES_DSN", "localhost:5432"),
        ("SRED_EMAIL_REDIS_URL", None),
        ("SRED_EMAIL_REDIS_URL", ""),
        ("SRED_EMAIL_REDIS_URL", "http://localhost"),
        ("SRED_EMAIL_REDIS_URL", "redis:localhost"),
        ("SRED_EMAIL_REDIS_PREFIX", "with space"),
        ("SRED_EMAIL_REDIS_PREFIX", "line\nbreak"),
        ("SRED_EMAIL_REDIS_PREFIX", "é"),
        ("SRED_EMAIL_REDIS_PREFIX", "x" * 201),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "soon"),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "-1"),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "nan"),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "inf"),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "1e10"),
        ("SRED_EMAIL_DRAIN_TIMEOUT", "PT25S"),
        ("SRED_EMAIL_LOG_LEVEL", "LOUD"),
        ("SRED_EMAIL_LOG_FORMAT", "xml"),
        ("SRED_EMAIL_AUTH", "on"),
    ],
)
def test_a_bad_or_missing_variable_is_named_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str | None
) -> None:
    lines = refused(monkeypatch, capsys, {variable: value})
    assert variables(lines) == [variable]
    assert len(lines[0]) > len(variable) + len(": ")


@pytest.mark.parametrize("value", ["1", "0.5", "0", " 25 ", "1e2"])
def test_seconds_may_be_fractions(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_DRAIN_TIMEOUT": value}).drain_timeout.total_seconds() == float(value)


def test_a_file_of_keys_that_can_not_be_used_is_named_with_its_line_and_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one c2VjcmV0IGJ1dCBzaG9ydA==\n")
    (line,) = refused(monkeypatch, capsys, {"SRED_EMAIL_ENCRYPTION_KEYS_FILE": str(keys)})
    assert line.startswith("SRED_EMAIL_ENCRYPTION_KEYS_FILE: line 1: must be an id and, after a space, 32 bytes")
    assert "c2VjcmV0" not in line
    (line,) = refused(monkeypatch, capsys, {"SRED_EMAIL_ENCRYPTION_KEYS_FILE": str(tmp_path / "none")})
    assert line.startswith("SRED_EMAIL_ENCRYPTION_KEYS_FILE: the file can't be read (No such file or directory)")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_DRAIN_TIMEOUT": ""}).drain_timeout == timedelta(seconds=25)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:6380/1", "unix:///run/redis.sock"])
def test_every_kind_of_redis_address_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("dsn", ["postgres://h/d", "postgresql://u:p@h:1/d?sslmode=require"])
def test_both_spellings_of_a_postgresql_address_are_taken(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_POSTGRES_DSN": dsn}).postgres_dsn == dsn


def test_a_cluster_prefix_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_REDIS_PREFIX": "{sred:email}"}).redis_prefix == "{sred:email}"


def test_several_mistakes_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {
        "SRED_EMAIL_POSTGRES_DSN": None,
        "SRED_EMAIL_REDIS_URL": "http://localhost",
        "SRED_EMAIL_LOG_LEVEL": "LOUD",
        "SRED_EMAIL_DRAIN_TIMEOUT": "soon",
    }
    assert variables(refused(monkeypatch, capsys, env)) == sorted(env)


def test_tokens_without_a_file_end_the_start_and_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (None, "tokens"):
        (line,) = refused(monkeypatch, capsys, {"SRED_EMAIL_AUTH": said})
        assert line.startswith("SRED_EMAIL_TOKENS_FILE: is required while SRED_EMAIL_AUTH is tokens")
        assert "sred-email token new" in line
        monkeypatch.delenv("SRED_EMAIL_AUTH", raising=False)


def test_a_bad_tokens_file_ends_the_start_with_its_line_and_without_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(token_line("shop", "send", "x") + "shop hunter2\n")
    (line,) = refused(monkeypatch, capsys, {"SRED_EMAIL_AUTH": "tokens", "SRED_EMAIL_TOKENS_FILE": str(file)})
    assert line.startswith("SRED_EMAIL_TOKENS_FILE: line 2: must be a name")
    assert "hunter2" not in line
    file.unlink()
    (line,) = refused(monkeypatch, capsys, {"SRED_EMAIL_AUTH": "tokens", "SRED_EMAIL_TOKENS_FILE": str(file)})
    assert line == "SRED_EMAIL_TOKENS_FILE: the file can't be read (No such file or directory)"


def test_off_asks_for_no_tokens_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_TOKENS_FILE": "/nowhere"}).auth == "off"


def test_certificates_that_cannot_be_used_end_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    certificate, key = map(str, certificates.issue("server"))
    _, other = map(str, certificates.issue("other"))
    names = [f"SRED_EMAIL_TLS_{name}_FILE" for name in ("CERT", "KEY", "CLIENT_CA")]

    def said(*files: str | None) -> list[str]:
        for name in names:
            monkeypatch.delenv(name, raising=False)
        return refused(monkeypatch, capsys, dict(zip(names, files, strict=True)))

    assert load(monkeypatch, dict(zip(names, (certificate, key, str(certificates.ca)), strict=True))).tls_key_file
    assert variables(said(certificate, None, None)) == names[1:2]
    assert variables(said(None, key, None)) == names[1:2]
    assert variables(said(None, None, str(certificates.ca))) == names[2:]
    assert said(certificate, other, None) == [f"{names[1]}: certificate and key do not belong together"]
    assert said(key, key, key) == [f"{name}: holds no certificate in PEM" for name in (names[0], names[2])]
    assert variables(said("/nowhere", "/nowhere", "/nowhere")) == sorted(names)


def test_mistakes_between_variables_are_named_together_with_mistakes_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SRED_EMAIL_TOKENS_FILE": "", "SRED_EMAIL_POSTGRES_DSN": None, "SRED_EMAIL_TLS_KEY_FILE": "key.pem"}
    assert variables(refused(monkeypatch, capsys, {"SRED_EMAIL_AUTH": None, **env})) == sorted(env)


def test_no_value_is_printed_because_it_may_be_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {
        "SRED_EMAIL_POSTGRES_DSN": "mysql://user:hunter2@localhost/email",
        "SRED_EMAIL_REDIS_URL": "http://:hunter2@localhost",
        "SRED_EMAIL_REDIS_PREFIX": "hunter2 hunter2",
        "SRED_EMAIL_DRAIN_TIMEOUT": "hunter2",
        "SRED_EMAIL_LOG_LEVEL": "hunter2",
        "SRED_EMAIL_LOG_FORMAT": "hunter2",
        "SRED_EMAIL_AUTH": "hunter2",
    }
    lines = refused(monkeypatch, capsys, env)
    assert variables(lines) == sorted(env)
    assert "hunter2" not in "\n".join(lines)


def test_no_secret_stands_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        {
            "SRED_EMAIL_POSTGRES_DSN": "postgresql://user:hunter2@localhost/email",
            "SRED_EMAIL_REDIS_URL": "redis://:hunter2@localhost",
        },
    )
    assert "hunter2" not in repr(settings) + str(settings)


def test_settings_can_not_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.drain_timeout = timedelta()  # type: ignore[misc]


def test_variables_of_other_programs_do_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, {"SRED_EMAIL_SOMETHING_NEW": "x", "UNRELATED": "y"})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:50051", "0.0.0.0", 50051),  # noqa: S104 - an example
        ("localhost:1", "localhost", 1),
        ("[::1]:65535", "::1", 65535),
        ("[::]:8080", "::", 8080),
        (" 127.0.0.1:80 ", "127.0.0.1", 80),
    ],
)
def test_a_listen_address_is_read_and_written_alike(
    monkeypatch: pytest.MonkeyPatch, text: str, host: str, port: int
) -> None:
    monkeypatch.setenv("SRED_EMAIL_AT", text)
    assert load_settings(Listening).at == ListenAddress(host, port)
    assert str(ListenAddress(host, port)) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["8080", ":8080", "localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:http", "::1:80", "[::1]"],
)
def test_a_bad_listen_address_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv("SRED_EMAIL_AT", text)
    with pytest.raises(SystemExit):
        load_settings(Listening)
    assert variables(capsys.readouterr().err.splitlines()) == ["SRED_EMAIL_AT"]
