"""What of an address may stand in a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred_email_core.logs import mask_address, mask_addresses


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ada@example.com", "a…@example.com"),
        ("a@example.com", "a…@example.com"),
        ("ada.lovelace+news@sub.example.com", "a…@sub.example.com"),
        ('"ada@home"@example.com', '"…@example.com'),
        ("@example.com", "…@example.com"),
        ("no address", "…"),
        ("", "…"),
    ],
)
def test_an_address_shows_its_first_letter_and_its_domain(address: str, masked: str) -> None:
    assert mask_address(address) == masked


@given(local=st.text(min_size=2), domain=st.text(max_size=20).filter(lambda text: "@" not in text))
def test_of_the_local_part_never_more_than_one_character_is_shown(local: str, domain: str) -> None:
    assert mask_address(f"{local}@{domain}") == f"{local[0]}…@{domain}"


@given(st.text().filter(lambda text: "@" not in text))
def test_nothing_is_shown_of_what_is_no_address(text: str) -> None:
    assert mask_address(text) == "…"


def test_addresses_in_the_words_of_others_are_masked() -> None:
    words = "Invalid `to` field: 'ada.l@example.com' <bob@example.org>, and no other."
    assert mask_addresses(words) == "Invalid `to` field: 'a…@example.com' <b…@example.org>, and no other."
