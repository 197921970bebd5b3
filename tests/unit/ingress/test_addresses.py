"""How addresses are read."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from sred_email_ingress.addresses import InvalidAddressError, ParsedAddress, parse_address


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("bob@example.com", ParsedAddress("", "bob", "example.com")),
        ("<bob@example.com>", ParsedAddress("", "bob", "example.com")),
        ("Bob <bob@example.com>", ParsedAddress("Bob", "bob", "example.com")),
        ("Bob<bob@example.com>", ParsedAddress("Bob", "bob", "example.com")),
        ("Müller GmbH & Co. <m@example.com>", ParsedAddress("Müller GmbH & Co.", "m", "example.com")),
        ("[Staging] Acme (EU) <a@example.com>", ParsedAddress("[Staging] Acme (EU)", "a", "example.com")),
        ('"Doe, Jane" <jane@example.com>', ParsedAddress("Doe, Jane", "jane", "example.com")),
        (r'"Jane \"JD\" Doe" <jane@example.com>', ParsedAddress('Jane "JD" Doe', "jane", "example.com")),
        ("Bob.Smith+tag@Mail.EXAMPLE.com", ParsedAddress("", "Bob.Smith+tag", "mail.example.com")),
        ("bob@bücher.example", ParsedAddress("", "bob", "xn--bcher-kva.example")),
        ("o'neil!#$%&*+-/=?^_`{|}~@example.com", ParsedAddress("", "o'neil!#$%&*+-/=?^_`{|}~", "example.com")),
        ("l" * 242 + "@example.com", ParsedAddress("", "l" * 242, "example.com")),
    ],
)
def test_an_address_is_read_into_its_parts(text: str, parsed: ParsedAddress) -> None:
    assert parse_address(text) == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no @"),
        ("not-an-address", "no @"),
        ("@example.com", "before the @"),
        ("a b@example.com", "before the @"),
        (".a@example.com", "before the @"),
        ("a..b@example.com", "before the @"),
        ('"a b"@example.com', "before the @"),
        ("a@b@example.com", "before the @"),
        ("jörg@example.com", "ASCII before the @"),
        ("a@", "after the @"),
        ("a@localhost", "after the @"),
        ("a@mail.local", "after the @"),
        ("a@[127.0.0.1]", "after the @"),
        ("a@exam ple.com", "after the @"),
        ("a@example..com", "after the @"),
        ("a@-example.com", "after the @"),
        ("a@" + "d" * 64 + ".com", "after the @"),
        ("a@" + "d." * 127 + "com", "after the @"),
        ("a@example.com, b@example.com", "before the @"),
        ("a@example.com;b", "after the @"),
        (" a@example.com", "before the @"),
        ("a@example.com ", "after the @"),
        ("l" * 243 + "@example.com", "longer than 254"),
        ("a@example.com\r\nBcc: x@example.com", "control character"),
        ("a@example.com\n", "control character"),
        ("a\0@example.com", "control character"),
        ("Bob\r\nBcc: x@example.com <a@example.com>", "control character"),
        ("Bob\u2028 <a@example.com>", "control character"),
        ("Bob\u0085 <a@example.com>", "control character"),
        ("Bob <a@example.com", "does not end"),
        ("a@example.com>", "bracket"),
        ("Bob <a@example.com> Smith", "does not end"),
        ("b@example.com, Bob <a@example.com>", "double quotes"),
        ("Bob <b@example.com> <a@example.com>", "double quotes"),
        ("Doe, Jane <a@example.com>", "double quotes"),
        ('"Jane" Doe <a@example.com>', "double quotes"),
        ('"Jane <a@example.com>', "double quotes"),
        ("group: <a@example.com>", "double quotes"),
        ("n" * 500 + " <a@example.com>", "longer than 512"),
    ],
)
def test_what_is_no_address_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddressError, match=reason):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("bob@Example.com", "bob@example.com"),
        ("Bob <bob@bücher.example>", "Bob <bob@xn--bcher-kva.example>"),
        ("Müller <m@example.com>", "Müller <m@example.com>"),
        ("Acme Inc. <m@example.com>", '"Acme Inc." <m@example.com>'),
        (r'"Jane \"JD\" Doe, \\o/" <jane@example.com>', r'"Jane \"JD\" Doe, \\o/" <jane@example.com>'),
    ],
)
def test_a_mailbox_is_written_so_that_any_parser_reads_it_alike(text: str, mailbox: str) -> None:
    assert parse_address(text).mailbox == mailbox
    assert parse_address(mailbox) == parse_address(text)


_address_like = st.text(alphabet="aA1.-_+@\"'<>[]ü。\u00adxn ", max_size=30)


@given(text=_address_like | st.from_regex(r"[a-z.]{1,5}@[a-z0-9ß.-]{1,20}\.com", fullmatch=True))
@example(text="Info@example.com")
@example(text="a@xn--.com")
@example(text="a@xn--a.com")
def test_a_bare_address_is_accepted_exactly_if_email_validator_accepts_it(text: str) -> None:
    try:
        expected = validate_email(text, check_deliverability=False, allow_smtputf8=False).ascii_email
    except EmailNotValidError:
        expected = None
    try:
        found = parse_address(text).address
    except InvalidAddressError:
        found = None
    if found is None or not text.endswith(">"):
        assert (found or "").lower() == (expected or "").lower()


@given(text=st.text(max_size=600) | _address_like.map(lambda text: f"{text} <a@example.com>"))
def test_any_text_is_either_parsed_or_refused_in_words_that_show_nothing_of_it(text: str) -> None:
    try:
        parsed = parse_address(text)
    except InvalidAddressError as error:
        reason = str(error)
    else:
        assert parse_address(parsed.mailbox) == parsed
        return
    assert reason.isascii()
    assert reason.isprintable()
