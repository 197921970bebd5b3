"""Which keys may leave the ring: those that no email needs."""

from sred_email_core.encryption.key_ring import EncryptionKey, KeyRing
from sred_email_ingress.key_report import report

NEW, OLD, SPARE = (EncryptionKey(name, name[0].encode() * 32) for name in ("new", "old", "spare"))
GONE, OTHER = EncryptionKey("gone", b"g" * 32), EncryptionKey("old", b"z" * 32)


def of(key: EncryptionKey) -> tuple[str, bytes]:
    return key.id, key.check


def test_each_key_is_told_with_the_emails_that_need_it() -> None:
    lines, complete = report(KeyRing([NEW, OLD, SPARE], ["gone"]), {of(NEW): 1203, of(OLD): 4, of(GONE): 2})
    assert lines == [
        "KEY    EMAILS",
        "new    1203    for new emails",
        "old    4",
        "spare  0",
        "gone   2       lost",
    ]
    assert complete


def test_keys_that_emails_need_and_the_file_lacks_are_told() -> None:
    lines, complete = report(KeyRing([NEW, OLD]), {of(GONE): 2, of(OTHER): 3, ("", b""): 1})
    assert lines[3:] == [
        f"gone  2       is not in the file; its check is {GONE.check.hex()}",
        f"old   3       another key has this id in the file; its check is {OTHER.check.hex()}",
        "?     1       damaged",
    ]
    assert not complete


def test_a_key_that_is_lost_by_its_check_is_told_from_the_one_that_has_its_id_now() -> None:
    lost = f"{OTHER.id}:{OTHER.check.hex()}"
    lines, complete = report(KeyRing([OLD], [lost]), {of(OLD): 4, of(OTHER): 3})
    assert [line.split() for line in lines[1:]] == [["old", "4", "for", "new", "emails"], [lost, "3", "lost"]]
    assert complete


def test_what_names_no_key_is_damaged_and_misses_none() -> None:
    lines, complete = report(KeyRing([NEW]), {("new", b"short"): 1, ("no id", NEW.check): 2})
    assert [line.split() for line in lines[2:]] == [["?", "3", "damaged"]]
    assert complete


def test_without_a_ring_and_without_encrypted_emails_there_is_nothing_to_tell() -> None:
    assert report(KeyRing(), {}) == (["KEY  EMAILS"], True)
