"""What is the same content under one idempotency key."""

from hashlib import sha256

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import Attachment, EmailKind, InlineContent, Priority, TemplateContent
from sred_email_ingress.fingerprint import canonical_parts, fingerprint


def full() -> SendEmailRequest:
    return SendEmailRequest(
        idempotency_key="k",
        kind=EmailKind.EMAIL_KIND_WELCOME,
        priority=Priority.PRIORITY_LOW,
        from_address="a@b.c",
        to=["t"],
        cc=["c"],
        bcc=["b"],
        reply_to=["r"],
        inline=InlineContent(subject="s", html="h", text="é"),
        headers={"X-B": "2", "X-A": "1"},
        attachments=[Attachment(filename="f", content_type="x/y", content=b"\0\1", content_id="i")],
        tags={"n": "v"},
    )


def changed(**fields: object) -> SendEmailRequest:
    request = full()
    for name, value in fields.items():
        request.ClearField(name)  # type: ignore[arg-type]
        request.MergeFrom(SendEmailRequest(**{name: value}))  # type: ignore[arg-type]
    return request


def from_template(template_id: str = "welcome", **variables: object) -> SendEmailRequest:
    values = ParseDict(variables, Struct())
    return changed(template=TemplateContent(template_id=template_id, variables=values))


CHANGED = {
    "kind": changed(kind=EmailKind.EMAIL_KIND_PASSWORD_RESET),
    "priority": changed(priority=Priority.PRIORITY_NORMAL),
    "from_address": changed(from_address="A <a@b.c>"),
    "no from_address": changed(from_address=""),
    "to": changed(to=["t2"]),
    "one more in to": changed(to=["t", "t2"]),
    "another order": changed(to=["t2", "t"]),
    "an empty one in to": changed(to=["t", ""]),
    "cc": changed(cc=["c2"]),
    "bcc": changed(bcc=["b2"]),
    "cc instead of bcc": changed(cc=["c", "b"], bcc=[]),
    "bcc instead of cc": changed(cc=[], bcc=["c", "b"]),
    "reply_to": changed(reply_to=[]),
    "subject": changed(inline=InlineContent(subject="s2", html="h", text="é")),
    "html": changed(inline=InlineContent(subject="s", html="h2", text="é")),
    "text": changed(inline=InlineContent(subject="s", html="h")),
    "html for text": changed(inline=InlineContent(subject="s", html="é", text="h")),
    "a boundary moved": changed(inline=InlineContent(subject="sh", text="é")),
    "header's value": changed(headers={"X-A": "1", "X-B": "3"}),
    "header's name": changed(headers={"X-A": "1", "X-C": "2"}),
    "values exchanged": changed(headers={"X-A": "2", "X-B": "1"}),
    "no headers": changed(headers={}),
    "a header as a tag": changed(headers={"X-A": "1"}, tags={"n": "v", "X-B": "2"}),
    "tag's value": changed(tags={"n": "v2"}),
    "tag's name": changed(tags={"n2": "v"}),
    "no attachments": changed(attachments=[]),
    "filename": changed(attachments=[Attachment(filename="g", content_type="x/y", content=b"\0\1", content_id="i")]),
    "content_type": changed(
        attachments=[Attachment(filename="f", content_type="x/z", content=b"\0\1", content_id="i")]
    ),
    "content": changed(attachments=[Attachment(filename="f", content_type="x/y", content=b"\0\2", content_id="i")]),
    "content_id": changed(attachments=[Attachment(filename="f", content_type="x/y", content=b"\0\1", content_id="j")]),
    "no content": changed(inline=None),
    "template": from_template(),
    "template's id": from_template("goodbye"),
    "a variable": from_template(name="Ada"),
    "variable's value": from_template(name="Bob"),
    "variable's name": from_template(first="Ada"),
    "a number": from_template(name=1),
    "another number": from_template(name=1.5),
    "true": from_template(name=True),
    "false": from_template(name=False),
    "null": from_template(name=None),
    "a number as text": from_template(name="1"),
    "a list": from_template(name=["Ada"]),
    "an empty list": from_template(name=[]),
    "a struct": from_template(name={"a": 1}),
    "an empty struct": from_template(name={}),
    "nested": from_template(name={"a": [1, {"b": None}]}),
}


def test_the_encoding_is_what_it_was_when_the_rows_in_the_log_were_written() -> None:
    def text(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + data

    def count(number: int) -> bytes:
        return number.to_bytes(8, "big")

    expected = (
        b"\0\0\0\1" + b"\0\0\0\3" + text(b"a@b.c")
        + count(1) + text(b"t") + count(1) + text(b"c") + count(1) + text(b"b") + count(1) + text(b"r")
        + b"\1" + text(b"s") + text(b"h") + text(b"\xc3\xa9")
        + count(2) + text(b"X-A") + text(b"1") + text(b"X-B") + text(b"2")
        + count(1) + text(b"n") + text(b"v")
        + count(1) + text(b"f") + text(b"x/y") + text(b"i") + text(b"\0\1")
    )  # fmt: skip
    assert b"".join(canonical_parts(full())) == expected
    assert fingerprint(full()) == sha256(b"sred.email.v1 fingerprint 1\n" + expected).digest()


@pytest.mark.parametrize(
    ("request_", "digest"),
    [
        (full(), "6dd848f505766d53bb2de7c58e7f6f9e86d74b23a1bdafa98e1a40d3761c08d6"),
        (SendEmailRequest(), "643a7d4111c5b2ece8a36bb248e068ff41938e143f11cca0c9c87cf09c2e509f"),
        (
            from_template(name="Ada", n=[1, True, None, {"x": {}}]),
            "9dd40875c9d841105877bc784337c2add74ecaebe04a95743d933a46f7d9cb8c",
        ),
    ],
    ids=["full", "empty", "template"],
)
def test_golden_fingerprints_stay(request_: SendEmailRequest, digest: str) -> None:
    assert fingerprint(request_).hex() == digest


def test_a_change_to_any_one_field_changes_the_fingerprint() -> None:
    fingerprints = {what: fingerprint(request) for what, request in CHANGED.items()} | {"nothing": fingerprint(full())}
    assert len(set(fingerprints.values())) == len(fingerprints)
    assert {len(digest) for digest in fingerprints.values()} == {32}


@pytest.mark.parametrize(
    "request_",
    [
        changed(idempotency_key="k2"),
        changed(send_at=Timestamp(seconds=5)),
        changed(expire_at=Timestamp(seconds=5)),
        changed(headers={"X-A": "1", "X-B": "2"}),
        SendEmailRequest.FromString(full().SerializeToString()),
    ],
    ids=["key", "send_at", "expire_at", "order of headers", "over the wire"],
)
def test_what_is_no_content_leaves_the_fingerprint_as_it_is(request_: SendEmailRequest) -> None:
    assert fingerprint(request_) == fingerprint(full())


def test_the_order_of_maps_is_no_content() -> None:
    names = [f"n{index}" for index in range(50)]
    one = changed(headers=dict.fromkeys(names, "v"), tags=dict.fromkeys(names, "v"))
    other = changed(headers=dict.fromkeys(reversed(names), "v"), tags=dict.fromkeys(reversed(names), "v"))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(from_template(a=1, b={"c": 1, "d": 2})) == fingerprint(from_template(b={"d": 2, "c": 1}, a=1))


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (EmailKind.EMAIL_KIND_WELCOME, Priority.PRIORITY_HIGH),
        (EmailKind.EMAIL_KIND_EMAIL_CONFIRMATION, Priority.PRIORITY_HIGH),
        (EmailKind.EMAIL_KIND_PASSWORD_RESET, Priority.PRIORITY_HIGH),
        (EmailKind.EMAIL_KIND_SUBSCRIPTION_CHANGED, Priority.PRIORITY_NORMAL),
        (EmailKind.EMAIL_KIND_QUOTA_WARNING, Priority.PRIORITY_NORMAL),
        (EmailKind.EMAIL_KIND_SYSTEM_NOTIFICATION, Priority.PRIORITY_NORMAL),
    ],
)
def test_naming_the_priority_that_the_kind_has_anyway_changes_nothing(kind: EmailKind, default: Priority) -> None:
    unset = changed(kind=kind, priority=Priority.PRIORITY_UNSPECIFIED)
    assert fingerprint(unset) == fingerprint(changed(kind=kind, priority=default))
    assert fingerprint(unset) != fingerprint(changed(kind=kind, priority=Priority.PRIORITY_LOW))


def test_variables_that_are_unset_and_empty_are_the_same() -> None:
    unset = changed(template=TemplateContent(template_id="welcome"))
    assert fingerprint(unset) == fingerprint(from_template())


def test_a_value_of_no_kind_is_none_of_the_others() -> None:
    request = from_template(name=None)
    before = fingerprint(request)
    request.template.variables.fields["name"].CopyFrom(Value())
    assert fingerprint(request) != before


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            SendEmailRequest.DESCRIPTOR,
            (
                "idempotency_key kind priority from_address to cc bcc reply_to "
                "inline template headers attachments tags send_at expire_at"
            ),
        ),
        (InlineContent.DESCRIPTOR, "subject html text"),
        (TemplateContent.DESCRIPTOR, "template_id variables"),
        (Attachment.DESCRIPTOR, "filename content_type content content_id"),
    ],
    ids=lambda value: value.name if isinstance(value, Descriptor) else "",
)
def test_each_field_of_the_contract_was_thought_of(message: Descriptor, fields: str) -> None:
    assert [field.name for field in message.fields] == fields.split()


_texts = st.text(max_size=3)
_contents = st.builds(
    lambda to, cc, headers, tags, subject, html: SendEmailRequest(
        to=to, cc=cc, headers=headers, tags=tags, inline=InlineContent(subject=subject, html=html)
    ),
    st.lists(_texts, max_size=2),
    st.lists(_texts, max_size=2),
    st.dictionaries(_texts, _texts, max_size=2),
    st.dictionaries(_texts, _texts, max_size=2),
    _texts,
    _texts,
)


@given(one=_contents, other=_contents)
def test_two_requests_encode_alike_only_if_they_are_alike(one: SendEmailRequest, other: SendEmailRequest) -> None:
    assert (b"".join(canonical_parts(one)) == b"".join(canonical_parts(other))) == (one == other)
