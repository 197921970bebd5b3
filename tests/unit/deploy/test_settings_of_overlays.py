"""Each process takes the settings that an overlay gives it, with Secrets as docs/deploy.md asks for them."""

import base64
import os
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.settings import load_settings
from sred_email_ingress.settings import IngressSettings, MigrateSettings
from sred_email_operator.console.settings import read_settings
from sred_email_operator.options import credentials_from_environment
from support.access_files import Certificates
from support.manifests import FOLDER, render

OVERLAYS = sorted(str(f.parent.relative_to(FOLDER)) for f in FOLDER.glob("overlays/*/kustomization.yaml"))
OVERLAYS.append("tests/mutual-tls-and-tracing")  # components that no overlay of ours has
COMBINATIONS = [*OVERLAYS, "tests/tls"]
MOUNTED_AT = "/run/secrets/sred-email/"
REDIS_URLS = {
    "overlays/production-redis-cluster": b"redis+cluster://redis-0:6379,redis-1:6379",
    "overlays/production-redis-sentinel": b"redis+sentinel://sentinel-0:26379,sentinel-1:26379/email",
    "overlays/production-tls": b"rediss://redis:6379/0",
    "tests/tls": b"rediss://redis:6379/0",
}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)


def mount(folder: Path, overlay: str) -> None:
    """Write what Secrets hold."""
    certificates = Certificates(folder / "authority")
    certificate, key = certificates.issue("sred-email-ingress")
    files = {
        "postgres-dsn": b"postgresql://user:password@postgres:5432/email\n",
        "redis-url": REDIS_URLS.get(overlay, b"redis://redis:6379/0"),
        "resend-api-key": b"re_key",
        "webhook-secret": b"whsec_aHVudGVyMg==",
        "tokens": (FOLDER / "overlays" / "development" / "tokens").read_bytes(),
        "tls.crt": certificate.read_bytes(),
        "tls.key": key.read_bytes(),
        "ca.crt": certificates.ca.read_bytes(),
        "client-ca.crt": certificates.ca.read_bytes(),
        "client.crt": certificate.read_bytes(),
        "client.key": key.read_bytes(),
        "redis-ca.crt": certificates.ca.read_bytes(),
        "encryption-keys": b"2026-11 " + base64.b64encode(bytes(32)) + b"\n",
        "token": b"0123456789abcdef",
        "service-token": b"a-token",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def environment_of(overlay: str, workload: str, folder: Path) -> dict[str, str]:
    variables = render(overlay).environment(workload)
    return {name: value.replace(MOUNTED_AT, f"{folder}/") for name, value in variables.items()}


@pytest.mark.parametrize("overlay", COMBINATIONS)
@pytest.mark.parametrize(
    ("workload", "settings_type"),
    [("migrate", MigrateSettings), ("ingress", IngressSettings), ("consumer", ConsumerSettings)],
)
def test_a_service_starts_with_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overlay: str, workload: str, settings_type: type[BaseSettings]
) -> None:
    mount(tmp_path, overlay)
    for name, value in environment_of(overlay, workload, tmp_path).items():
        monkeypatch.setenv(name, value)
    load_settings(settings_type)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_console_starts_with_them_and_may_call_the_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overlay: str
) -> None:
    mount(tmp_path, overlay)
    environment = environment_of(overlay, "console", tmp_path)
    assert read_settings(environment).token == "0123456789abcdef"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    credentials = credentials_from_environment()
    for service in ("INGRESS", "CONSUMER"):
        credentials.check(environment[f"SRED_EMAIL_{service}_ADDRESS"])
    assert (credentials.tls is not None) == ("tls" in overlay)
