"""One address, however it is written."""

import pytest

from sred_email_core.addresses import DIGEST_BYTES, NoAddressError, bare_address, digest_of, parse_bare_address


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com",
        "Ada@Example.COM",
        "Ada <ada@example.com>",
        '"L, Ada <x>" <ADA@example.com>',
        " ada@example.com ",
    ],
)
def test_an_address_is_one_however_it_is_written(text: str) -> None:
    assert parse_bare_address(text) == "ada@example.com"
    assert bare_address(text.strip()) == "ada@example.com"


def test_an_international_domain_has_one_form() -> None:
    assert parse_bare_address("ada@Müller.de") == parse_bare_address("ada@xn--mller-kva.de") == "ada@xn--mller-kva.de"


@pytest.mark.parametrize(
    "text",
    ["", "ada", "@example.com", "ada@", "a b@example.com", "ada@example.com, bob@example.com", "<>", "\0@example.com"],
)
def test_what_is_no_address_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(NoAddressError) as refused:
        parse_bare_address(text)
    assert str(refused.value) == "is no email address"


def test_a_digest_tells_nothing_of_the_address() -> None:
    digest = digest_of("ada@example.com")
    assert len(digest) == DIGEST_BYTES
    assert digest != digest_of("bob@example.com")
    assert b"ada" not in digest
