"""Secrets that stand in files, as an orchestrator mounts them."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from sred_email_core.settings import load_settings
from sred_email_ingress.settings import IngressSettings, MigrateSettings

GOOD = {
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://user:hunter2@localhost:5432/email",
    "SRED_EMAIL_REDIS_URL": "redis://:hunter2@localhost:6379/0",
    "SRED_EMAIL_RESEND_WEBHOOK_SECRET": "whsec_aHVudGVyMg==",
}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SRED_EMAIL_AUTH", "off")


def in_files(monkeypatch: pytest.MonkeyPatch, folder: Path, contents: Mapping[str, bytes | None] = {}) -> None:
    """Let each variable name its file; None: a file that is not there."""
    for variable, content in {**{name: value.encode() + b"\n" for name, value in GOOD.items()}, **contents}.items():
        file = folder / variable.lower()
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setenv(f"{variable}_FILE", str(file))


def refused(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as exit_:
        load_settings(IngressSettings)
    assert exit_.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_each_secret_may_stand_in_a_file_and_its_last_line_break_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_files(monkeypatch, tmp_path)
    settings = load_settings(IngressSettings)
    assert settings.postgres_dsn == load_settings(MigrateSettings).postgres_dsn == GOOD["SRED_EMAIL_POSTGRES_DSN"]
    assert settings.redis_url == GOOD["SRED_EMAIL_REDIS_URL"]
    assert settings.resend_webhook_secret == (GOOD["SRED_EMAIL_RESEND_WEBHOOK_SECRET"],)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("variable", GOOD)
@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff", b"hunter2"])
def test_a_file_that_is_missing_empty_or_wrong_is_named_on_one_line_without_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    content: bytes | None,
) -> None:
    in_files(monkeypatch, tmp_path, {variable: content})
    (line,) = refused(capsys)
    assert line.startswith(f"{variable}_FILE: ")
    assert "hunter2" not in line


@pytest.mark.parametrize("variable", GOOD)
def test_a_secret_given_in_both_ways_is_refused_rather_than_guessed_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    in_files(monkeypatch, tmp_path)
    monkeypatch.setenv(variable, GOOD[variable])
    (line,) = refused(capsys)
    assert line.startswith(f"{variable}_FILE: unset this one or {variable}")


def test_whoever_names_no_secret_hears_of_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split("; or ")[1] for line in refused(capsys)] == [
        "SRED_EMAIL_POSTGRES_DSN_FILE, a file with it",
        "SRED_EMAIL_REDIS_URL_FILE, a file with it",
    ]
