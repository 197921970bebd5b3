"""``sred-email template``: works on a machine where nothing runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sred_email_operator.__main__ import app

NO_SETTINGS = {name: "" for name in os.environ if name.startswith("SRED_EMAIL_")}


def run(*words: str, **env: str) -> Result:
    result = CliRunner().invoke(app, ("template", *words), env=NO_SETTINGS | env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    return result


def test_list_names_each_template_its_kind_and_its_variables() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert "password-reset  PASSWORD_RESET\n" in result.stdout
    assert "    reset_url       url                   where a new password is chosen\n" in result.stdout
    assert "    name            text, optional        how to greet the recipient\n" in result.stdout


def test_list_prints_json_for_programs() -> None:
    listed = {each["id"]: each for each in json.loads(run("list", "--json").stdout)["templates"]}
    assert len(listed) == 6
    assert listed["quota-warning"]["kind"] == "QUOTA_WARNING"
    assert listed["quota-warning"]["variables"][1] == {
        "name": "used",
        "type": "number",
        "optional": False,
        "meaning": "how much is used",
        "fields": [],
        "most_characters": 500,
        "example": 160,
    }


def test_preview_prints_the_html_with_examples_and_what_is_given() -> None:
    result = run("preview", "welcome", "--var", "name=<Zoë>")
    assert result.exit_code == 0
    assert result.stdout.startswith("<!doctype html>")
    assert "Good to have you here, &lt;Zoë&gt;" in result.stdout
    assert "The workspace of Northwind Robotics is ready." in result.stdout


def test_preview_prints_the_text_part_alone_if_asked() -> None:
    assert run("preview", "welcome", "--text", "--var", "name=Zoë").stdout.startswith("Good to have you here, Zoë\n")


def test_preview_prints_every_part_as_json() -> None:
    shown = json.loads(run("preview", "password-reset", "--json").stdout)
    assert list(shown) == ["subject", "html", "text"]
    assert shown["subject"] == "Choose a new password for SREDSimplify"


def test_variables_come_from_a_file_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "variables.json"
    file.write_text(json.dumps({"used": 1, "limit": 3, "quota": "seats", "company": None}), encoding="utf-8")
    text = run("preview", "quota-warning", "--text", "--vars", str(file), "--var", "used=2").stdout
    assert text.startswith("2 of 3 seats are used\n\nYou have used 2 of 3 seats.")


def test_lists_are_written_as_json() -> None:
    details = 'details=[{"label": "A", "value": "B"}]'
    assert "\nA: B\n" in run("preview", "system-notification", "--text", "--var", details).stdout


def test_preview_writes_a_file(tmp_path: Path) -> None:
    out = tmp_path / "welcome.html"
    result = run("preview", "welcome", "--out", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run("preview", "welcome", "--out", str(tmp_path / "none" / "x.html")).exit_code == 1


def test_preview_opens_the_browser(tmp_path: Path) -> None:
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-m", "sred_email_operator", "template", "preview", "welcome", "--open"],
        env=os.environ | NO_SETTINGS | {"BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    opened = Path(seen.read_text().removeprefix("file://"))
    assert opened.parent == tmp_path
    assert "Good to have you here" in opened.read_text(encoding="utf-8")


def test_previews_look_as_the_settings_of_the_ingress_say(tmp_path: Path) -> None:
    (tmp_path / "welcome.txt").write_text("Mine: {{ start_url }}\n")
    env = {
        "SRED_EMAIL_TEMPLATES_DIR": str(tmp_path),
        "SRED_EMAIL_PRODUCT_NAME": "Claims & Co",
        "SRED_EMAIL_BRAND_COLOR": "#aa3300",
    }
    shown = json.loads(run("preview", "welcome", "--json", **env).stdout)
    assert shown["subject"] == "Welcome to Claims & Co, Ada"
    assert "#aa3300" in shown["html"]
    assert shown["text"].startswith("Mine: https://")


def test_a_broken_template_fails_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "welcome.txt").write_text("x\n{{ nobody }}\n")
    result = run("list", "--templates-dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path}/welcome.txt:2: nobody is no variable that the template declares" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("preview", "welcom"), "one of email-confirmation"),
        (("preview", "welcome", "--var", "name"), "NAME=VALUE is needed"),
        (("preview", "welcome", "--var", "name=a", "--var", "name=b"), "given twice"),
        (("preview", "quota-warning", "--var", "used=many"), "used is a number"),
        (("preview", "welcome", "--open", "--text"), "none of --text"),
        (("preview", "welcome", "--json", "--text"), "without --json"),
        (("preview", "welcome", "--vars", "/nowhere.json"), "there is no file"),
        (("list", "--templates-dir", "/nowhere"), "does not exist"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(words: tuple[str, ...], reason: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_a_file_that_is_no_object_is_wrong_usage(tmp_path: Path, content: str) -> None:
    file = tmp_path / "variables.json"
    file.write_bytes(content.encode("latin-1"))
    assert run("preview", "welcome", "--vars", str(file)).exit_code == 2


def test_a_bad_setting_is_named() -> None:
    result = run("list", SRED_EMAIL_BRAND_COLOR="blue")
    assert result.exit_code == 2
    assert "SRED_EMAIL_BRAND_COLOR: must be a colour such as #1d4f7c" in result.stderr


def test_a_value_that_does_not_fit_fails_by_name() -> None:
    result = run("preview", "welcome", "--var", "start_url=javascript:alert(1)", "--var", "x=y")
    assert result.exit_code == 1
    assert "start_url must be a URL that begins with https://" in result.stderr
    assert "x is no variable of this template" in result.stderr
