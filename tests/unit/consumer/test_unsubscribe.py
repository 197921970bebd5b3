"""What the unsubscribe setting may hold, and which emails get which headers."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.serializer import OutgoingEmail, render, shape_of
from sred_email_consumer.unsubscribe import KINDS, parse_unsubscribe, serialize, unsubscribe_headers
from sred_email_core.email_send_log.records import SendShape

ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
WEB = "https://example.com/u?to={recipient}&e={email_id}"
BY_ID = "https://example.com/u/{email_id}"
MAIL = "mailto:unsubscribe@example.com?subject={email_id}"
ONE_CLICK = "List-Unsubscribe=One-Click"
OPTIONAL, NEEDED = "SYSTEM_NOTIFICATION", "PASSWORD_RESET"


def headers(
    setting: str, to: list[str] | None = None, kind: str = OPTIONAL, own: list[str] | None = None
) -> dict[str, str]:
    configured = serialize(parse_unsubscribe(setting))
    recipients = to or ["ada@example.com"]
    return {**unsubscribe_headers(configured, kind=kind, email_id=ID, recipients=recipients, own=own or [])}


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (BY_ID, (BY_ID,)),
        ("mailto:u@example.com", ("mailto:u@example.com",)),
        (f"{BY_ID} {MAIL}", (BY_ID, MAIL)),
        (f"{MAIL}, {BY_ID}", (BY_ID, MAIL)),
        (f"  {MAIL}\n{BY_ID} ", (BY_ID, MAIL)),
        ("HTTPS://Example.COM:8443?e={email_id}", ("HTTPS://Example.COM:8443?e={email_id}",)),
        ("mailto:u+{email_id}@example.com", ("mailto:u+{email_id}@example.com",)),
        ("https://example.com/a,b/{email_id}", ("https://example.com/a,b/{email_id}",)),
    ],
)
def test_a_url_for_the_web_an_address_or_both(text: str, urls: tuple[str, ...]) -> None:
    assert parse_unsubscribe(text) == urls


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "https:// URL"),
        ("http://example.com/{email_id}", "https:// URL"),
        ("https://example.com", "needs {recipient} or {email_id}"),
        ("https://{recipient}.example.com/", "https:// URL"),
        ("https://a@example.com/{email_id}", "https:// URL"),
        ("https://localhost/{email_id}", "https:// URL"),
        ("https://example.com/<{email_id}>", "https:// URL"),
        ('https://example.com/"{email_id}"', "https:// URL"),
        ("https://example.com/ü{email_id}", "https:// URL"),
        ("https://example.com/{email_id}\x00", "https:// URL"),
        ("mailto:nobody", "https:// URL"),
        ("mailto:ü@example.com", "https:// URL"),
        ("mailto:a@example.com,b@example.com", "https:// URL"),
        (f"{BY_ID} {BY_ID}", "one https:// URL and one mailto: address at most"),
        (f"{MAIL} {BY_ID} {MAIL}", "one https:// URL and one mailto: address at most"),
        (BY_ID + "{name}", "placeholders"),
        (BY_ID + "{}", "placeholders"),
        (BY_ID + "{", "placeholders"),
        ("https://example.com/{{email_id}}", "placeholders"),
        (BY_ID + "x" * 500, "longer than 500"),
    ],
)
def test_what_can_not_be_used_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_unsubscribe(text)


def test_both_are_named_and_one_click_comes_with_the_web_only() -> None:
    assert headers(f"{WEB} {MAIL}") == {
        "List-Unsubscribe": f"<https://example.com/u?to=ada%40example.com&e={ID}>, "
        f"<mailto:unsubscribe@example.com?subject={ID}>",
        "List-Unsubscribe-Post": ONE_CLICK,
    }
    assert headers(MAIL) == {"List-Unsubscribe": f"<mailto:unsubscribe@example.com?subject={ID}>"}


def test_kinds_that_answer_what_their_recipient_did_get_none() -> None:
    assert sorted(KINDS) == ["QUOTA_WARNING", "SYSTEM_NOTIFICATION"]
    for kind in ("WELCOME", "EMAIL_CONFIRMATION", "PASSWORD_RESET", "SUBSCRIPTION_CHANGED"):
        assert headers(BY_ID, kind=kind) == {}


@pytest.mark.parametrize("name", ["List-Unsubscribe", "list-unsubscribe", "LIST-UNSUBSCRIBE-POST"])
def test_a_header_of_the_callers_own_wins(name: str) -> None:
    assert headers(f"{BY_ID} {MAIL}", own=["X-Other", name]) == {}


def test_several_recipients_get_no_link_that_names_one_of_them() -> None:
    two = ["ada@example.com", "bob@example.com"]
    assert headers(WEB, two) == {}
    assert headers(f"{WEB} {MAIL}", two) == {"List-Unsubscribe": f"<mailto:unsubscribe@example.com?subject={ID}>"}
    assert headers(BY_ID, two) == {
        "List-Unsubscribe": f"<https://example.com/u/{ID}>",
        "List-Unsubscribe-Post": ONE_CLICK,
    }


@pytest.mark.parametrize(
    ("mailbox", "encoded"),
    [
        ("Ada <ada@example.com>", "ada%40example.com"),
        ('"a <b>" <ada@example.com>', "ada%40example.com"),
        ("o'neil+x&y=1@example.com", "o%27neil%2Bx%26y%3D1%40example.com"),
        ("{email_id}@example.com", "%7Bemail_id%7D%40example.com"),
    ],
)
def test_the_address_alone_is_named_and_encoded(mailbox: str, encoded: str) -> None:
    assert (
        headers("https://example.com/{recipient}", [mailbox])["List-Unsubscribe"] == f"<https://example.com/{encoded}>"
    )


@given(address=st.text(min_size=1, max_size=20))
def test_no_recipient_breaks_out_of_the_header(address: str) -> None:
    value = headers("https://example.com/{recipient}", [address])["List-Unsubscribe"]
    assert re.fullmatch(r"<https://example\.com/[A-Za-z0-9%._~-]*>", value)


# What a send is shaped by


def email(kind: str, email_id: str = ID, **fields: object) -> OutgoingEmail:
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hi", text="x", **fields)  # type: ignore[arg-type]
    return OutgoingEmail(email_id, kind, content)


def test_a_send_says_what_shaped_it_and_only_if_something_did() -> None:
    configured = serialize([BY_ID])
    one, other = email(NEEDED), email(OPTIONAL)
    assert shape_of([one], redirect_to=None, configured_headers=configured) == SendShape("/emails", 1)
    assert shape_of([other], redirect_to=None, configured_headers=None) == SendShape("/emails", 1)
    assert shape_of([other], redirect_to=None, configured_headers=configured) == SendShape(
        "/emails", 2, configured_headers=configured
    )
    assert shape_of([one, other], redirect_to=None, configured_headers=configured) == SendShape(
        "/emails/batch", 2, configured_headers=configured
    )
    redirected = shape_of([other], redirect_to="s@example.com", configured_headers=configured)
    assert redirected == SendShape("/emails", 2, "s@example.com")


def test_each_email_of_a_batch_gets_its_own() -> None:
    emails = [email(NEEDED), email(OPTIONAL), email(OPTIONAL, headers={"list-unsubscribe": "<https://own.example/>"})]
    shape = shape_of(emails, redirect_to=None, configured_headers=serialize([BY_ID]))
    needed, optional, own = json.loads(render(emails, shape))
    assert "headers" not in needed
    assert optional["headers"]["List-Unsubscribe"] == f"<https://example.com/u/{ID}>"
    assert own["headers"] == {"list-unsubscribe": "<https://own.example/>"}


def test_version_2_adds_to_the_bytes_of_version_1_nothing_but_the_headers() -> None:
    shape = SendShape("/emails", 2, configured_headers=serialize([BY_ID, MAIL]))
    assert render([email(OPTIONAL, headers={"X-A": "1"}, tags={"t": "1"})], shape) == (
        b'{"from":"a@example.com","to":["b@example.com"],"subject":"Hi","text":"x","headers":{'
        b'"List-Unsubscribe":"<https://example.com/u/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b>, '
        b'<mailto:unsubscribe@example.com?subject=0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b>",'
        b'"List-Unsubscribe-Post":"List-Unsubscribe=One-Click","X-A":"1"},'
        b'"tags":[{"name":"email_id","value":"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},'
        b'{"name":"kind","value":"SYSTEM_NOTIFICATION"},{"name":"t","value":"1"}]}'
    )


def test_the_subject_of_a_redirected_email_stays_within_bounds() -> None:
    shape = SendShape("/emails", 2, "staging@example.com")
    many = email(NEEDED)
    many.content.to.extend(f"r{number}@example.com" for number in range(49))
    many.content.cc.append("c@example.com")
    item = json.loads(render([many], shape))
    assert item["to"] == ["staging@example.com"]
    assert "cc" not in item
    assert item["subject"] == (
        "[to b@example.com, r0@example.com, r1@example.com, r2@example.com, r3@example.com and 46 more] Hi"
    )
    many.content.subject = "x" * 998
    assert len(json.loads(render([many], shape))["subject"]) == 998
