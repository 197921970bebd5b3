"""The file of keys is read again when it changes, and a bad one takes nothing away."""

import base64
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sred_email_core.encryption.key_ring import KeyRingError
from sred_email_core.encryption.key_ring_file import KeyRingFile

ONE = f"one {base64.b64encode(b'1' * 32).decode()}\n"
TWO = f"two {base64.b64encode(b'2' * 32).decode()}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(ONE)
    return file


def test_without_a_file_nothing_is_encrypted() -> None:
    keys = KeyRingFile(None)
    keys.refresh()
    assert keys.ring.first is None
    assert not keys.stale


def test_a_file_that_changed_is_read_again_and_said_to_be_without_a_key(file: Path) -> None:
    keys = KeyRingFile(file)
    file.write_text(TWO + ONE)
    with capture_logs() as logs:
        keys.refresh()
        keys.refresh()
    assert keys.ring.ids == ["two", "one"]
    assert logs == [{"event": "encryption_keys_read", "log_level": "info", "keys": ["two", "one"], "lost": []}]


def test_a_file_that_was_swapped_behind_a_link_is_read_again(tmp_path: Path, file: Path) -> None:
    link, other = tmp_path / "mounted", tmp_path / "other"
    other.write_text(TWO)
    link.symlink_to(file)
    keys = KeyRingFile(link)
    (tmp_path / "next").symlink_to(other)
    (tmp_path / "next").rename(link)
    keys.refresh()
    assert keys.ring.ids == ["two"]


@pytest.mark.parametrize("bad", ["", "one c2hvcnQ=\n", None, b"\xff\xfe"])
def test_a_file_that_can_not_be_used_leaves_the_keys_as_they_were_and_is_told_once(
    file: Path, bad: str | bytes | None
) -> None:
    keys = KeyRingFile(file)
    if bad is None:
        file.unlink()
    else:
        file.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    with capture_logs() as logs:
        keys.refresh()
        keys.refresh()
    assert keys.ring.ids == ["one"]
    assert keys.stale
    assert [line["event"] for line in logs] == ["encryption_keys_unusable"]
    file.write_text(ONE)
    keys.refresh()
    assert not keys.stale


def test_a_file_that_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="can't be read"):
        KeyRingFile(tmp_path / "nothing")
