"""Settings of who may call, which both services have."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from sred_email_core.access.certificates import check_certificates, check_key, parse_certificate
from sred_email_core.access.tokens import parse_tokens

_MISSING_TOKENS = (
    "is required while SRED_EMAIL_AUTH is tokens: `sred-email token new --name NAME --scopes send,read` prints a token "
    "and its line for this file. SRED_EMAIL_AUTH=off lets in whoever reaches the port"
)


class AccessSettings(BaseSettings):
    """What says who may call. The files are tried here, so that a bad one ends the start; they are read again later."""

    # Never serve in the open when the operator asked for a lock.
    auth: Literal["off", "tokens"] = Field(default="tokens", description="who may call; off must be said")
    tokens_file: Path | None = Field(default=None, validate_default=True)
    tls_cert_file: Path | None = Field(default=None)
    tls_key_file: Path | None = Field(default=None, validate_default=True)
    tls_client_ca_file: Path | None = Field(default=None)

    @field_validator("tokens_file")
    @classmethod
    def _hold_tokens(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("auth") == "tokens":
            if path is None:
                raise ValueError(_MISSING_TOKENS)
            parse_tokens(_text(_content(path)))
        return path

    @field_validator("tls_cert_file")
    @classmethod
    def _hold_a_certificate(cls, path: Path | None) -> Path | None:
        if path is not None:
            check_certificates(_content(path))
        return path

    @field_validator("tls_key_file")
    @classmethod
    def _hold_its_key(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None:
            check_key(_content(path))
        if "tls_cert_file" not in info.data:  # it was wrong itself
            return path
        certificate: Path | None = info.data["tls_cert_file"]
        if path is None and certificate is not None:
            raise ValueError("is required beside SRED_EMAIL_TLS_CERT_FILE: the private key of that certificate, in PEM")
        if path is not None and certificate is None:
            raise ValueError("goes with SRED_EMAIL_TLS_CERT_FILE, which is not set: set both, or neither")
        if path is not None and certificate is not None:
            parse_certificate([_content(certificate), _content(path)])
        return path

    @field_validator("tls_client_ca_file")
    @classmethod
    def _hold_authorities(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None:
            check_certificates(_content(path))
            if "tls_cert_file" in info.data and info.data["tls_cert_file"] is None:
                raise ValueError("goes with SRED_EMAIL_TLS_CERT_FILE and SRED_EMAIL_TLS_KEY_FILE, which are not set")
        return path


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ValueError(f"the file can't be read ({e.strerror or type(e).__name__})") from e


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ValueError("the file is not UTF-8") from e
