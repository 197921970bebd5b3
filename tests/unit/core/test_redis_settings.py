"""What the settings say of Redis: the address, the prefix that fits it, and certificates that can be read."""

import os
from pathlib import Path

import pytest

from sred_email_core.redis_address import RedisCertificates
from sred_email_core.settings import ServiceSettings, load_settings
from support.access_files import Certificates


@pytest.fixture(autouse=True)
def good_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SRED_EMAIL_", "RESEND_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SRED_EMAIL_POSTGRES_DSN", "postgresql://localhost/email")
    monkeypatch.setenv("SRED_EMAIL_AUTH", "off")


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ServiceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(f"SRED_EMAIL_REDIS_{name}", value)
    return load_settings(ServiceSettings)


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str) -> str:
    with pytest.raises(SystemExit) as ended:
        load(monkeypatch, **variables)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return str(line)


def test_on_a_cluster_a_prefix_without_a_hash_tag_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(monkeypatch, capsys, URL="redis+cluster://a,b")
    assert line.startswith("SRED_EMAIL_REDIS_PREFIX: ")
    assert "{sred:email}" in line
    assert load(monkeypatch, PREFIX="{sred:email}").redis_prefix == "{sred:email}"


@pytest.mark.parametrize("url", ["redis+sentinel://a", "redis://a,b", "redis+cluster://a/1", "redis://h?db=1"])
def test_an_address_that_can_not_be_understood_is_named_once_and_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert refused(monkeypatch, capsys, URL=url).startswith("SRED_EMAIL_REDIS_URL: ")


def test_certificates_are_read_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    certificate, key = made.issue("client")
    settings = load(
        monkeypatch,
        URL="rediss://h",
        TLS_CA_FILE=str(made.ca),
        TLS_CERT_FILE=str(certificate),
        TLS_KEY_FILE=str(key),
    )
    assert settings.redis_certificates == RedisCertificates(str(made.ca), str(certificate), str(key))


@pytest.mark.parametrize(
    ("variable", "content", "others"),
    [
        ("TLS_CA_FILE", None, ()),
        ("TLS_CA_FILE", "no certificate", ()),
        ("TLS_KEY_FILE", "no key", ("TLS_CERT_FILE",)),
        ("TLS_KEY_FILE", None, ("TLS_CERT_FILE",)),
    ],
)
def test_files_that_hold_no_such_thing_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    variable: str,
    content: str | None,
    others: tuple[str, ...],
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    certificate, _ = Certificates(tmp_path / "made").issue("client")
    given = {variable: str(file), **dict.fromkeys(others, str(certificate))}
    line = refused(monkeypatch, capsys, URL="rediss://h", **given)
    assert line.startswith(f"SRED_EMAIL_REDIS_{variable}: can't be read, or holds no such thing")


def test_a_certificate_without_its_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    certificate, _ = Certificates(tmp_path).issue("client")
    line = refused(monkeypatch, capsys, URL="rediss://h", TLS_CERT_FILE=str(certificate))
    assert line.startswith("SRED_EMAIL_REDIS_TLS_KEY_FILE: ")


def test_certificates_for_an_address_without_tls_are_refused_since_nothing_would_be_encrypted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ca = Certificates(tmp_path).ca
    line = refused(monkeypatch, capsys, URL="redis://h", TLS_CA_FILE=str(ca))
    assert line.startswith("SRED_EMAIL_REDIS_TLS_CA_FILE: has no effect")
