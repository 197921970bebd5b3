"""The bytes of a request body. A released serializer never changes: these golden bytes hold version 1.

Should one of the golden tests fail, the serializer needs a new number, not the test new bytes.
"""

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.email_pb2 import Attachment
from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.serializer import (
    BATCH_ENDPOINT,
    SINGLE_ENDPOINT,
    OutgoingEmail,
    UnknownSerializerError,
    body_sha256,
    render,
)
from sred_email_core.email_send_log.records import SendShape

FIRST_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
SECOND_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"
SINGLE = SendShape(SINGLE_ENDPOINT, 1)
BATCH = SendShape(BATCH_ENDPOINT, 1)


def minimal(email_id: str = FIRST_ID) -> OutgoingEmail:
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hello", text="Hi")
    return OutgoingEmail(email_id, "WELCOME", content)


def full() -> OutgoingEmail:
    content = EmailContent(
        from_address="Sred <noreply@example.com>",
        to=["ada@example.com", '"Babbage, C." <charles@example.com>'],
        cc=["c@example.com"],
        bcc=["d@example.com", "e@example.com"],
        reply_to=["reply@example.com"],
        subject='Grüße 👋 \u2028 \\ "quoted"',
        html="<p>Zażółć\n\tgęślą & jaźń</p>",
        text="plain\r\ntext",
        headers={"X-Two": "2", "X-One": "ü", "List-Unsubscribe": "<https://example.com/u?a=1&b=2>"},
        tags={"team": "core", "a": "z"},
        attachments=[
            Attachment(filename="Übersicht.pdf", content_type="application/pdf", content=b"\x00\xff\xfe"),
            Attachment(filename="logo.png", content=b"png", content_id="logo"),
            Attachment(filename="empty.txt"),
        ],
    )
    return OutgoingEmail(FIRST_ID, "PASSWORD_RESET", content)


MINIMAL_BYTES = (
    b'{"from":"a@example.com","to":["b@example.com"],"subject":"Hello","text":"Hi",'
    b'"tags":[{"name":"email_id","value":"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},{"name":"kind","value":"WELCOME"}]}'
)
FULL_BYTES = (
    '{"from":"Sred <noreply@example.com>",'
    '"to":["ada@example.com","\\"Babbage, C.\\" <charles@example.com>"],'
    '"subject":"Grüße 👋 \u2028 \\\\ \\"quoted\\"",'
    '"cc":["c@example.com"],'
    '"bcc":["d@example.com","e@example.com"],'
    '"reply_to":["reply@example.com"],'
    '"html":"<p>Zażółć\\n\\tgęślą & jaźń</p>",'
    '"text":"plain\\r\\ntext",'
    '"headers":{"List-Unsubscribe":"<https://example.com/u?a=1&b=2>","X-One":"ü","X-Two":"2"},'
    '"attachments":[{"filename":"Übersicht.pdf","content":"AP/+","content_type":"application/pdf"},'
    '{"filename":"logo.png","content":"cG5n","content_id":"logo"},'
    '{"filename":"empty.txt","content":""}],'
    '"tags":[{"name":"a","value":"z"},'
    '{"name":"email_id","value":"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},'
    '{"name":"kind","value":"PASSWORD_RESET"},'
    '{"name":"team","value":"core"}]}'
).encode()


def test_version_1_of_a_small_email() -> None:
    assert render([minimal()], SINGLE) == MINIMAL_BYTES


def test_version_1_of_an_email_with_everything() -> None:
    assert render([full()], SINGLE) == FULL_BYTES


def test_version_1_of_a_batch() -> None:
    second = MINIMAL_BYTES.replace(FIRST_ID.encode(), SECOND_ID.encode())
    assert render([minimal(), minimal(SECOND_ID)], BATCH) == b"[" + MINIMAL_BYTES + b"," + second + b"]"


def test_version_1_of_a_batch_of_one() -> None:
    assert render([full()], BATCH) == b"[" + FULL_BYTES + b"]"


def test_version_1_of_a_redirected_email() -> None:
    shape = SendShape(SINGLE_ENDPOINT, 1, redirect_to="staging@example.com")
    assert render([full()], shape) == (
        '{"from":"Sred <noreply@example.com>",'
        '"to":["staging@example.com"],'
        '"subject":"[to ada@example.com, \\"Babbage, C.\\" <charles@example.com>, c@example.com, d@example.com, '
        'e@example.com] Grüße 👋 \u2028 \\\\ \\"quoted\\"",'
        '"reply_to":["reply@example.com"],'.encode()
        + FULL_BYTES[FULL_BYTES.index(b'"html"') :]
    )


@pytest.mark.parametrize("version", [1, 2])
def test_version_2_of_what_is_not_configured_is_version_1(version: int) -> None:
    assert render([full()], SendShape(SINGLE_ENDPOINT, version)) == FULL_BYTES
    assert render([minimal()], SendShape(SINGLE_ENDPOINT, version)) == MINIMAL_BYTES
    one, two = (SendShape(SINGLE_ENDPOINT, n, redirect_to="staging@example.com") for n in (1, version))
    assert render([full()], one) == render([full()], two)  # up to five recipients


def test_a_redirected_email_goes_to_none_of_its_recipients() -> None:
    shape = SendShape(BATCH_ENDPOINT, 1, redirect_to="staging@example.com")
    for item in json.loads(render([full(), minimal(SECOND_ID)], shape)):
        assert item["to"] == ["staging@example.com"]
        assert "cc" not in item
        assert "bcc" not in item


def test_the_order_of_maps_does_not_matter() -> None:
    one, other = full(), full()
    for name in ("headers", "tags"):
        pairs = dict(getattr(one.content, name))
        getattr(other.content, name).clear()
        for key in reversed(list(pairs)):
            getattr(other.content, name)[key] = pairs[key]
    assert render([one], SINGLE) == render([other], SINGLE)


@given(pairs=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=6), chance=st.randoms())
def test_the_order_of_any_maps_does_not_matter(pairs: dict[str, str], chance: random.Random) -> None:
    shuffled = list(pairs.items())
    chance.shuffle(shuffled)
    one = EmailContent(headers=pairs, tags=pairs)
    other = EmailContent(headers=dict(shuffled), tags=dict(shuffled))
    assert render([OutgoingEmail("i", "K", one)], SINGLE) == render([OutgoingEmail("i", "K", other)], SINGLE)


def test_the_bytes_survive_a_round_trip_through_the_log() -> None:
    email = full()
    frozen = EmailContent.FromString(email.content.SerializeToString())
    assert render([OutgoingEmail(email.email_id, email.kind, frozen)], SINGLE) == FULL_BYTES


def test_the_systems_own_tags_win_over_tags_of_the_same_name() -> None:
    email = minimal()
    email.content.tags["email_id"] = "forged"
    email.content.tags["kind"] = "forged"
    assert render([email], SINGLE) == MINIMAL_BYTES


def test_the_members_of_a_batch_keep_their_order() -> None:
    there = render([minimal(FIRST_ID), minimal(SECOND_ID)], BATCH)
    back = render([minimal(SECOND_ID), minimal(FIRST_ID)], BATCH)
    assert there != back


@pytest.mark.parametrize("version", [0, 3, -1, 1000])
def test_a_version_that_is_not_known_is_refused(version: int) -> None:
    with pytest.raises(UnknownSerializerError, match=str(version)):
        render([minimal()], SendShape(SINGLE_ENDPOINT, version))


def test_a_send_remembers_the_sha256_of_its_body() -> None:
    assert body_sha256(MINIMAL_BYTES) == hashlib.sha256(MINIMAL_BYTES).digest()
    assert len(body_sha256(b"")) == 32


@given(
    content=st.builds(
        EmailContent,
        from_address=st.text(max_size=9),
        to=st.lists(st.text(max_size=9), max_size=2),
        subject=st.text(max_size=9),
        html=st.text(max_size=9),
        headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        attachments=st.lists(
            st.builds(Attachment, filename=st.text(max_size=5), content=st.binary(max_size=9)), max_size=2
        ),
    )
)
def test_every_content_that_can_be_stored_can_be_sent(content: EmailContent) -> None:
    assert json.loads(render([OutgoingEmail("i", "WELCOME", content)], SINGLE))["from"] == content.from_address
