"""The token of a run on this machine: it may do everything there."""

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

_SCOPES = "send,read,operate"


@dataclass(frozen=True, slots=True)
class LocalToken:
    """A token, and the tokens file that it stands in by its digest."""

    token: str = field(repr=False)
    tokens_file: Path


def local_token(folder: Path) -> LocalToken:
    """The token of a folder; the same for each run in it, so that a terminal may keep it."""
    kept, tokens_file = folder / "token", folder / "tokens"
    token = kept.read_text(encoding="ascii").strip() if kept.exists() else ""
    if not token:
        token = f"sred_{secrets.token_urlsafe(32)}"
        kept.touch(mode=0o600)
        kept.write_text(token + "\n", encoding="ascii")
    digest = hashlib.sha256(token.encode()).hexdigest()
    tokens_file.write_text(f"local {_SCOPES} sha256:{digest}\n", encoding="ascii")
    return LocalToken(token, tokens_file)
