"""Settings of the ingress: defaults as in the contract, and bad values named on one line each."""

import os
from collections.abc import Mapping
from datetime import timedelta

import pytest

from sred_email_core.settings import load_settings
from sred_email_ingress.settings import IngressSettings
from sred_email_templates import Product

GOOD = {
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://user:pass@localhost:5432/email",
    "SRED_EMAIL_REDIS_URL": "redis://localhost:6379/0",
    "SRED_EMAIL_AUTH": "off",
}
BAD_VALUES = {
    "SRED_EMAIL_DEFAULT_EXPIRY": ["3600", "BIRTHDAY=1", "WELCOME=0", "WELCOME=soon", "WELCOME=1,WELCOME=2", ","],
    "SRED_EMAIL_MAX_BACKLOG": ["0", "-1", "1.5", "many"],
    "SRED_EMAIL_MAX_REDIS_MEMORY": ["0", "-0.1", "1.1", "nan", "inf", "80%"],
    "SRED_EMAIL_RECONCILE_INTERVAL": ["0", "-1", "often"],
    "SRED_EMAIL_RECONCILE_AFTER": ["0", "-1", "late"],
    "SRED_EMAIL_DEFAULT_FROM": ["nobody"],
    "SRED_EMAIL_ALLOWED_FROM_DOMAINS": ["localhost", "a@example.com", ","],
    "SRED_EMAIL_PRODUCT_NAME": [" ", "a\nb", "n" * 201],
    "SRED_EMAIL_PRODUCT_URL": ["example.com", "javascript:alert(1)"],
    "SRED_EMAIL_PRODUCT_LOGO_URL": ["logo.png"],
    "SRED_EMAIL_BRAND_COLOR": ["blue", "#12345", "#1d4f7c;"],
    "SRED_EMAIL_SUPPORT_ADDRESS": ["help", "Help <help@example.com>"],
    "SRED_EMAIL_POSTAL_ADDRESS": ["a\nb"],
    "SRED_EMAIL_RESEND_WEBHOOK_SECRET": ["secret", "whsec_", "whsec_c2VjcmV0,other", ",", "whsec_!"],
    "SRED_EMAIL_INGRESS_GRPC_LISTEN": ["50051", "localhost:0"],
    "SRED_EMAIL_INGRESS_HTTP_LISTEN": ["8080", "localhost:65536"],
}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> IngressSettings:
    for name, value in {**GOOD, **env}.items():
        monkeypatch.setenv(name, value)
    return load_settings(IngressSettings)


def test_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {})
    assert settings.default_expiry == {"PASSWORD_RESET": timedelta(hours=1), "EMAIL_CONFIRMATION": timedelta(days=1)}
    assert settings.max_backlog == 1_000_000
    assert settings.max_redis_memory == 0.8
    assert (settings.reconcile_interval, settings.reconcile_after) == (timedelta(seconds=10), timedelta(seconds=30))
    assert (str(settings.ingress_grpc_listen), str(settings.ingress_http_listen)) == ("0.0.0.0:50051", "0.0.0.0:8080")
    assert settings.default_from is None
    assert settings.allowed_from_domains is None
    assert settings.product == Product()
    assert settings.templates_dir is None


@pytest.mark.parametrize(
    ("value", "expiry"),
    [
        ("WELCOME=0.5", {"WELCOME": timedelta(seconds=0.5)}),
        ("off", {}),
        ("", {"PASSWORD_RESET": timedelta(hours=1), "EMAIL_CONFIRMATION": timedelta(days=1)}),
    ],
)
def test_the_default_expiry_is_as_said_off_is_none_and_empty_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, value: str, expiry: dict[str, timedelta]
) -> None:
    assert load(monkeypatch, {"SRED_EMAIL_DEFAULT_EXPIRY": value}).default_expiry == expiry


def test_limits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"SRED_EMAIL_MAX_BACKLOG": "5", "SRED_EMAIL_MAX_REDIS_MEMORY": "1"})
    assert (settings.max_backlog, settings.max_redis_memory) == (5, 1.0)


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in BAD_VALUES.items() for value in values]
)
def test_a_bad_value_ends_the_start_with_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(monkeypatch, {variable: value})
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{variable}: ")
    assert len(line) > len(variable) + len(": ")
    assert "BIRTHDAY" not in line


def test_the_product_of_emails_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "SRED_EMAIL_PRODUCT_NAME": "Claims",
        "SRED_EMAIL_PRODUCT_URL": "https://claims.example",
        "SRED_EMAIL_PRODUCT_LOGO_URL": "https://claims.example/logo.png",
        "SRED_EMAIL_BRAND_COLOR": "#aa3300",
        "SRED_EMAIL_SUPPORT_ADDRESS": "help@claims.example",
        "SRED_EMAIL_POSTAL_ADDRESS": "1 Main Street",
    }
    assert load(monkeypatch, said).product == Product(
        name="Claims",
        url="https://claims.example",
        logo_url="https://claims.example/logo.png",
        brand_color="#aa3300",
        support_address="help@claims.example",
        postal_address="1 Main Street",
    )


def test_while_a_webhook_secret_is_replaced_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"SRED_EMAIL_RESEND_WEBHOOK_SECRET": "whsec_c2VjcmV0, whsec_b3RoZXI="})
    assert settings.resend_webhook_secret == ("whsec_c2VjcmV0", "whsec_b3RoZXI=")
    assert "c2VjcmV0" not in repr(settings)
    assert load(monkeypatch, {"SRED_EMAIL_RESEND_WEBHOOK_SECRET": ""}).resend_webhook_secret == ()
