"""Tokens say what they hold, and are good for nothing else."""

import base64

import pytest

from sred_email_ingress.tokens import TokenMaker

MAKER = TokenMaker(b"list")


@pytest.mark.parametrize("place", [b"", b"\x00" * 16, bytes(range(24)), b"x" * 100])
def test_a_token_is_read_as_it_was_written(place: bytes) -> None:
    assert MAKER.read(MAKER.write(place)) == place
    assert MAKER.read(MAKER.write(place, bound_to=b"filters"), bound_to=b"filters") == place


def test_a_token_is_good_for_its_kind_and_its_filters_only() -> None:
    token = MAKER.write(b"place", bound_to=b"filters")
    assert MAKER.read(token, bound_to=b"others") is None
    assert MAKER.read(token) is None
    assert TokenMaker(b"resume").read(token, bound_to=b"filters") is None


@pytest.mark.parametrize("length", [15, 16, 17, 24])
def test_no_character_of_a_token_can_be_changed_added_or_left_out(length: int) -> None:
    token = MAKER.write(b"p" * length)
    for index in range(len(token)):
        other = "A" if token[index] != "A" else "B"
        assert MAKER.read(token[:index] + other + token[index + 1 :]) is None
        assert MAKER.read(token[:index] + token[index + 1 :]) is None
        assert MAKER.read(token[:index] + "A" + token[index:]) is None


@pytest.mark.parametrize("token", ["", "nonsense", "ÿÿÿÿ", "====", " ", "A" * 36, "A" * 100_000, "\x00"])
def test_what_is_no_token_is_none(token: str) -> None:
    assert MAKER.read(token) is None


def test_a_token_made_up_by_who_knows_its_parts_but_not_its_digest_is_none() -> None:
    assert MAKER.read(base64.urlsafe_b64encode(b"\x01" + b"p" * 16 + b"d" * 11).decode()) is None
