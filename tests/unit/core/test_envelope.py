"""What is encrypted comes back whole for its own email and the right key, and for nothing else."""

import base64
import re

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.stream_message_pb2 import EmailContent, EncryptedContent
from sred_email_core.encryption.envelope import from_stored, seal, to_stored, unseal
from sred_email_core.encryption.key_ring import EncryptionKey, KeyRing, KeyRingError, parse_key_ring
from sred_email_core.errors import KeyMissingError, UnreadableContentError

EMAIL_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
OTHER_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"
OLD, NEW = EncryptionKey("2026-05", b"o" * 32), EncryptionKey("2026-11", b"n" * 32)
RING = KeyRing([NEW, OLD])
CONTENT = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="A secret", html="<p>é</p>")


def sealed(content: EmailContent = CONTENT, key: EncryptionKey = NEW, email_id: str = EMAIL_ID) -> EncryptedContent:
    return seal(key, email_id, content.SerializeToString(), has_attachments=False, sender_domain="example.com")


def line(key_id: str, letter: str) -> str:
    return f"{key_id} {base64.b64encode(letter.encode() * 32).decode()}"


@given(st.builds(EmailContent, from_address=st.text(), to=st.lists(st.text()), html=st.text(max_size=300)))
def test_content_comes_back_as_it_was(content: EmailContent) -> None:
    stored = to_stored(sealed(content))
    kept = from_stored(stored)
    assert kept is not None
    assert unseal(RING, EMAIL_ID, kept) == content


def test_nothing_that_an_email_says_is_left_to_read() -> None:
    stored = to_stored(sealed())
    assert not [word for word in (b"secret", b"b@example.com", b"<p>") if word in stored]


def test_all_keys_of_a_ring_read_and_the_first_one_is_for_new_emails() -> None:
    assert unseal(RING, EMAIL_ID, sealed(key=OLD)) == CONTENT
    assert RING.first is NEW


def test_the_same_content_never_looks_the_same() -> None:
    one, two = sealed(), sealed()
    assert len({one.wrapped_key, two.wrapped_key}) == len({one.nonce, two.nonce}) == 2
    assert one.ciphertext != two.ciphertext


def test_a_message_that_is_not_encrypted_is_told_from_one_that_is() -> None:
    assert from_stored(CONTENT.SerializeToString()) is None
    assert from_stored(b"") is None
    with pytest.raises(DecodeError):
        EmailContent.FromString(to_stored(sealed()))  # a version that knows of no encryption gives it up unsent


def test_content_that_was_moved_to_another_email_is_not_read() -> None:
    with pytest.raises(UnreadableContentError, match="damaged"):
        unseal(RING, OTHER_ID, sealed())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ciphertext", b""),
        ("ciphertext", b"x" * 15),
        ("ciphertext", b"x" * 100),
        ("wrapped_key", b""),
        ("wrapped_key", b"x" * 16),
        ("wrapped_key", b"x" * 24),
        ("wrapped_key", b"x" * 40),
        ("nonce", b""),
        ("nonce", b"x" * 12),
        ("nonce", b"x" * 200),
        ("has_attachments", True),
        ("sender_domain", "example.org"),
    ],
)
def test_what_was_changed_is_not_read(field: str, value: object) -> None:
    changed = sealed()
    setattr(changed, field, value)
    with pytest.raises(UnreadableContentError, match="damaged"):
        unseal(RING, EMAIL_ID, changed)


def test_every_bit_of_the_ciphertext_counts() -> None:
    whole = sealed()
    for place in range(len(whole.ciphertext)):
        changed = bytearray(whole.ciphertext)
        changed[place] ^= 1
        whole_but_one = EncryptedContent()
        whole_but_one.CopyFrom(whole)
        whole_but_one.ciphertext = bytes(changed)
        with pytest.raises(UnreadableContentError):
            unseal(RING, EMAIL_ID, whole_but_one)


def test_a_key_that_is_not_here_is_told_by_its_name_and_nothing_is_called_damaged() -> None:
    with pytest.raises(KeyMissingError, match=r'"2026-11" is missing: put it into the file of SRED_EMAIL_') as raised:
        unseal(KeyRing([OLD]), EMAIL_ID, sealed())
    assert (raised.value.key_id, raised.value.check) == (NEW.id, NEW.check)
    with pytest.raises(KeyMissingError):
        unseal(KeyRing(), EMAIL_ID, sealed())


def test_another_key_under_the_same_id_is_told_from_damaged_content() -> None:
    with pytest.raises(KeyMissingError, match='"2026-11" is another one'):
        unseal(KeyRing([EncryptionKey(NEW.id, b"z" * 32)]), EMAIL_ID, sealed())


def test_what_a_lost_key_encrypted_is_read_by_nobody_and_stops_nobody() -> None:
    with pytest.raises(UnreadableContentError, match='"2026-05" is lost'):
        unseal(KeyRing([NEW], [OLD.id]), EMAIL_ID, sealed(key=OLD))


def test_a_key_whose_id_another_one_has_now_can_be_declared_lost_by_its_check() -> None:
    other = EncryptionKey(NEW.id, b"z" * 32)
    with pytest.raises(KeyMissingError, match=f"its check is {other.check.hex()}"):
        unseal(RING, EMAIL_ID, sealed(key=other))
    ring = parse_key_ring(f"{line(NEW.id, 'n')}\n{NEW.id} lost:{other.check.hex()}\n{NEW.id} lost:{'0' * 16}\n")
    with pytest.raises(UnreadableContentError, match='"2026-11" is lost'):
        unseal(ring, EMAIL_ID, sealed(key=other))
    assert unseal(ring, EMAIL_ID, sealed()) == CONTENT
    with pytest.raises(KeyMissingError):
        unseal(ring, EMAIL_ID, sealed(key=EncryptionKey(NEW.id, b"y" * 32)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key_id", ""),
        ("key_id", "2026 11"),
        ("key_id", "2026-11\n"),
        ("key_id", "a" * 65),
        ("key_check", b""),
        ("key_check", b"x" * 7),
        ("key_check", b"x" * 9),
    ],
)
def test_what_names_no_key_is_damaged_and_no_key_is_called_missing(field: str, value: object) -> None:
    changed = sealed()
    setattr(changed, field, value)
    with pytest.raises(UnreadableContentError, match="damaged"):
        unseal(RING, EMAIL_ID, changed)


def test_a_ring_is_read_in_the_order_of_its_lines() -> None:
    ring = parse_key_ring(f"# made in November\n\n{line('2026-11', 'n')}\n  {line('2026-05', 'o')}  \n2025-11 lost\n")
    assert ring.ids == ["2026-11", "2026-05"]
    assert ring.first == NEW
    assert ring.lost == {"2025-11"}


def test_no_key_is_shown_where_a_ring_is() -> None:
    assert "nnnn" not in repr(NEW)
    assert base64.b64encode(NEW.secret).decode() not in repr(NEW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no key"),
        ("# nothing\n", "there is no key"),
        ("2026-11 lost", "there is no key"),
        ("2026-11", "line 1: must be an id and"),
        (f"{line('a', 'n')}\nb c d", "line 2: must be"),
        ("a bm90IDMyIGJ5dGVz", "line 1: must be"),
        (f"a {'n' * 43}", "line 1: must be"),
        (f"a {'*' * 44}", "line 1: must be"),
        (f"a {'é' * 44}", "line 1: must be"),
        (line("a/b", "n"), "line 1: an id is"),
        (line("a" * 65, "n"), "line 1: an id is"),
        (f"{line('a', 'n')}\n\n{line('a', 'o')}", "line 3: the id a stands on line 1 already"),
        (f"{line('a', 'n')}\na lost", "line 2: the id a stands on line 1 already"),
        (f"{line('a', 'n')}\na lost:{'0' * 15}", "line 2: after lost: comes the key's check, 16 hexadecimal digits"),
        (f"{line('a', 'n')}\na lost:{'g' * 16}", "line 2: after lost: comes"),
        (f"{line('a', 'n')}\na lost:", "line 2: after lost: comes"),
        (
            f"{line('a', 'n')}\na lost:{'0' * 16}\na lost:{'0' * 16}",
            "line 3: the id a:0000000000000000 stands on line 2",
        ),
        (f"a lost:{'0' * 16}\n{line('a', 'n')}", "line 1: the first key is for new emails"),
        (f"b lost\n{line('a', 'n')}", "line 1: the first key is for new emails"),
    ],
)
def test_a_ring_that_can_not_be_used_is_told_by_line_and_remedy_and_never_shows_a_key(text: str, words: str) -> None:
    with pytest.raises(KeyRingError, match=re.escape(words)) as raised:
        parse_key_ring(text)
    assert not any(part in str(raised.value) for part in text.split() if len(part) > 40)
