"""Tokens files and certificates for tests."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import trustme

TOKENS = {"send": "token-that-sends", "read": "token-that-reads", "operate": "token-that-operates"}
"""A token for each scope; the caller of each is named like it."""


def token_line(name: str, scopes: str, token: str) -> str:
    """As the tokens file holds it."""
    return f"{name} {scopes} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def write_tokens(path: Path, lines: str = "") -> Path:
    """Put a tokens file in place of the one that is there, as one does: written beside it, then renamed."""
    new = path.with_suffix(".new")
    new.write_text(lines or "".join(token_line(scope, scope, token) for scope, token in TOKENS.items()))
    new.replace(path)
    return path


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """What a call carries."""
    return (("authorization", f"Bearer {token}"),)


class Certificates:
    """An authority, and what it issues, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """Certificate and key of a name, for localhost."""
        issued = self.authority.issue_cert(
            "localhost",
            "127.0.0.1",
            common_name=name,
            not_before=datetime(2020, 1, 1, tzinfo=UTC),
            not_after=datetime(2020, 2, 1, tzinfo=UTC) if expired else None,
        )
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key


def mount(folder: Path, version: str, files: dict[str, Path]) -> dict[str, Path]:
    """Put files where Kubernetes would: links to a link to a folder of a version, which is swapped for a new one."""
    data = folder / f"..{version}"
    data.mkdir(parents=True)
    for name, path in files.items():
        (data / name).write_bytes(path.read_bytes())
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(data.name)
    os.replace(folder / "..data_tmp", folder / "..data")  # noqa: PTH105 - Path.replace would do the same
    return {name: folder / name for name in files}
