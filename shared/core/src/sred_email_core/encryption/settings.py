"""The setting that names the file of keys."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from sred_email_core.encryption.key_ring_file import read_key_ring


def _check(file: Path | None) -> Path | None:
    if file is not None:
        read_key_ring(file)
    return file


EncryptionKeysFile = Annotated[
    Path | None,
    AfterValidator(_check),
    Field(description="a key a line, the first one for new emails; unset: nothing is encrypted"),
]
