"""Every rule for the fields of SendEmail."""

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import Attachment, EmailKind, InlineContent, Priority, TemplateContent
from sred_email_core.errors import FieldViolation
from sred_email_ingress.validation import find_violations

WELCOME = EmailKind.EMAIL_KIND_WELCOME


def valid() -> SendEmailRequest:
    return SendEmailRequest(
        idempotency_key="welcome:42",
        kind=WELCOME,
        to=["ada@example.com"],
        inline=InlineContent(subject="Welcome", html="<p>Hello</p>"),
    )


def changed(**fields: object) -> SendEmailRequest:
    request = valid()
    for name, value in fields.items():
        request.ClearField(name)  # type: ignore[arg-type]
        request.MergeFrom(SendEmailRequest(**{name: value}))  # type: ignore[arg-type]
    return request


def with_inline(subject: str = "Welcome", html: str = "<p>Hello</p>", text: str = "") -> SendEmailRequest:
    return changed(inline=InlineContent(subject=subject, html=html, text=text))


def with_attachment(
    filename: str = "a.pdf", content_type: str = "", content: bytes = b"%PDF", content_id: str = ""
) -> SendEmailRequest:
    attachment = Attachment(filename=filename, content_type=content_type, content=content, content_id=content_id)
    return changed(attachments=[attachment])


def bad_fields(request: SendEmailRequest) -> list[str]:
    return [violation.field for violation in find_violations(request)]


def many(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}@example.com" for index in range(count)]


def test_a_plain_request_has_no_violations() -> None:
    assert find_violations(valid()) == []


def test_a_request_with_every_field_has_no_violations() -> None:
    request = valid()
    request.priority = Priority.PRIORITY_LOW
    request.from_address = "Acme Inc. <hello@acme.example>"
    request.cc.append("Müller <cc@example.com>")
    request.bcc.append("bcc@bücher.example")
    request.reply_to.append('"Support, EU" <support@acme.example>')
    request.headers.update(
        {"X-Entity-Ref-ID": "42", "List-Unsubscribe": "<https://acme.example/u>", "X-Name": "Jürgen"}
    )
    request.tags.update({"campaign": "spring-2025", "tenant_1": "A" * 256})
    request.inline.text = "Hello\r\n\tAda"
    request.attachments.add(filename="Rechnung März.pdf", content_type="application/pdf", content=b"%PDF")
    request.attachments.add(
        filename="invite.ics", content_type='text/calendar; method=REQUEST; charset="utf-8"', content=b"BEGIN"
    )
    request.attachments.add(filename="logo.png", content=b"\x89PNG", content_id="logo@acme.example")
    assert find_violations(request) == []


@pytest.mark.parametrize(
    "request_",
    [
        changed(idempotency_key="".join(map(chr, range(32, 127))) + "k" * 161),
        changed(to=many("u", 50)),
        changed(to=many("a", 10), cc=many("b", 20), bcc=many("c", 20)),
        changed(reply_to=many("r", 50)),
        changed(expire_at=Timestamp(seconds=-62_135_596_800)),
        changed(expire_at=Timestamp(seconds=253_402_300_799, nanos=999_999_999)),
        with_inline(subject="s" * 998),
        with_inline(subject="é" * 998),
        with_inline(html="", text="Hello"),
        changed(tags={f"tag{index}": "v" for index in range(73)}),
        changed(headers={f"X-{index}": "v" * 998 for index in range(50)}),
        changed(headers={"X-" + "n" * 124: ""}),
        changed(attachments=[Attachment(filename="f", content=b"c")] * 100),
        with_attachment(filename="f" * 255),
        with_attachment(content_id="c" * 127),
    ],
    ids=lambda request: f"{request.ByteSize()} bytes",
)
def test_a_request_at_a_limit_is_accepted(request_: SendEmailRequest) -> None:
    assert find_violations(request_) == []


@pytest.mark.parametrize(
    ("request_", "field", "description"),
    [
        (changed(idempotency_key=""), "idempotency_key", "required"),
        (changed(idempotency_key="k" * 257), "idempotency_key", "longer than 256"),
        (changed(idempotency_key="clé"), "idempotency_key", "printable ASCII"),
        (changed(idempotency_key="key\x07"), "idempotency_key", "printable ASCII"),
        (changed(idempotency_key="key\x7f"), "idempotency_key", "printable ASCII"),
        (changed(kind=0), "kind", "required"),
        (changed(kind=99), "kind", "no kind"),
        (changed(kind=-1), "kind", "no kind"),
        (changed(priority=99), "priority", "no priority"),
        (changed(from_address="nobody"), "from_address", "no @"),
        (changed(from_address="a@example.com\r\nBcc: b@example.com"), "from_address", "control character"),
        (changed(to=[]), "to", "at least one recipient"),
        (changed(to=[], cc=["a@example.com"]), "to", "at least one recipient"),
        (changed(to=many("u", 51)), "to", "more than 50 recipients"),
        (changed(to=many("a", 17), cc=many("b", 17), bcc=many("c", 17)), "to", "more than 50 recipients"),
        (changed(to=["a@example.com", "b@example.com", "nobody"]), "to[2]", "no @"),
        (changed(to=[""]), "to[0]", "no @"),
        (changed(cc=["a@example.com\r\nX: y"]), "cc[0]", "control character"),
        (changed(bcc=["a@example.com\nX: y"]), "bcc[0]", "control character"),
        (changed(reply_to=["a@example.com\rX: y"]), "reply_to[0]", "control character"),
        (changed(reply_to=many("r", 51)), "reply_to", "more than 50"),
        (with_inline(subject=""), "inline.subject", "required"),
        (with_inline(subject="s" * 999), "inline.subject", "longer than 998"),
        (with_inline(subject="hello\nBcc: a@example.com"), "inline.subject", "control character"),
        (with_inline(subject="hello\0"), "inline.subject", "control character"),
        (with_inline(subject="hello\u0085"), "inline.subject", "control character"),
        (with_inline(subject="hello\u2028"), "inline.subject", "control character"),
        (with_inline(subject="hello\u2029"), "inline.subject", "control character"),
        (with_inline(html=""), "inline.html", "html or text is required"),
        (with_inline(html="<p>\0</p>"), "inline.html", "NUL"),
        (with_inline(text="\0"), "inline.text", "NUL"),
        (
            changed(template=TemplateContent()),
            "template.template_id",
            "required",
        ),
        (changed(headers={"X-Thing": "a\r\nBcc: b@example.com"}), 'headers["X-Thing"]', "control character"),
        (changed(headers={"X-Thing": "a\0"}), 'headers["X-Thing"]', "control character"),
        (changed(headers={"X-Thing": "a" * 999}), 'headers["X-Thing"]', "longer than 998"),
        (changed(headers={"": "a"}), 'headers[""]', "the name"),
        (changed(headers={"X A": "a"}), 'headers["X A"]', "the name"),
        (changed(headers={"X:A": "a"}), 'headers["X:A"]', "the name"),
        (changed(headers={"X-Ä": "a"}), 'headers["X-?"]', "the name"),
        (changed(headers={'X-"\\': "a"}), 'headers["X-??"]', "the name"),
        (changed(headers={"X-A\r\nBcc": "a"}), 'headers["X-A??Bcc"]', "the name"),
        (changed(headers={"n" * 127: "a"}), f'headers["{"n" * 40}..."]', "the name"),
        (changed(headers={f"X-{index}": "a" for index in range(51)}), "headers", "more than 50"),
        (changed(tags={"email_id": "a"}), 'tags["email_id"]', "the system sets"),
        (changed(tags={"kind": "a"}), 'tags["kind"]', "the system sets"),
        (changed(tags={"": "a"}), 'tags[""]', "the name"),
        (changed(tags={"a.b": "a"}), 'tags["a.b"]', "the name"),
        (changed(tags={"n" * 257: "a"}), f'tags["{"n" * 40}..."]', "the name"),
        (changed(tags={"a": ""}), 'tags["a"]', "the value"),
        (changed(tags={"a": "b c"}), 'tags["a"]', "the value"),
        (changed(tags={"a": "b\n"}), 'tags["a"]', "the value"),
        (changed(tags={"a": "v" * 257}), 'tags["a"]', "the value"),
        (changed(tags={f"tag{index}": "v" for index in range(74)}), "tags", "more than 73"),
        (with_attachment(filename=""), "attachments[0].filename", "required"),
        (with_attachment(filename="../a.pdf"), "attachments[0].filename", "path"),
        (with_attachment(filename="C:\\a.pdf"), "attachments[0].filename", "path"),
        (with_attachment(filename="a\r\n.pdf"), "attachments[0].filename", "control character"),
        (with_attachment(filename="f" * 256), "attachments[0].filename", "longer than 255"),
        (with_attachment(content_type="pdf"), "attachments[0].content_type", "MIME type"),
        (with_attachment(content_type="text/plain\r\nX: y"), "attachments[0].content_type", "MIME type"),
        (with_attachment(content_type="text/plain; charset"), "attachments[0].content_type", "MIME type"),
        (with_attachment(content_type="text/" + "p" * 251), "attachments[0].content_type", "MIME type"),
        (with_attachment(content=b""), "attachments[0].content", "empty"),
        (with_attachment(content_id="<logo>"), "attachments[0].content_id", "letters, digits"),
        (with_attachment(content_id="c" * 128), "attachments[0].content_id", "1 to 127"),
        (changed(attachments=[Attachment(filename="f", content=b"c")] * 101), "attachments", "more than 100"),
        (changed(send_at=Timestamp(seconds=-62_135_596_801)), "send_at", "no time between the years 1 and 9999"),
        (changed(send_at=Timestamp(nanos=-1)), "send_at", "no time between the years 1 and 9999"),
        (changed(expire_at=Timestamp(seconds=1, nanos=-1)), "expire_at", "no time"),
        (changed(expire_at=Timestamp(seconds=1, nanos=1_000_000_000)), "expire_at", "no time"),
        (changed(expire_at=Timestamp(seconds=-62_135_596_801)), "expire_at", "no time"),
        (changed(expire_at=Timestamp(seconds=253_402_300_800)), "expire_at", "no time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_bad_field_is_the_one_violation(request_: SendEmailRequest, field: str, description: str) -> None:
    (violation,) = find_violations(request_)
    assert violation.field == field
    assert description in violation.description


def test_an_email_of_40_mb_after_base64_is_too_large() -> None:
    assert find_violations(with_attachment(content=b"x" * (29 << 20))) == []
    too_large = "the whole email is larger than 40 MB (after base64)"
    for request, field in (
        (with_attachment(content=b"x" * (30 << 20)), "attachments"),
        (with_inline(html="x" * (40 << 20)), "inline.html"),
        (with_inline(html="x" * (15 << 20), text="x" * (25 << 20)), "inline.text"),
        (with_inline(html="é" * (20 << 20)), "inline.html"),
    ):
        assert find_violations(request) == [FieldViolation(field, too_large)]


@pytest.mark.parametrize(
    "name",
    [
        *("From", "TO", "Cc", "bcc", "Reply-To", "Subject", "date", "MESSAGE-ID", "Sender", "Return-Path", "Received"),
        *("MIME-Version", "DKIM-Signature", "Content-Type", "content-disposition", "Resent-From", "ARC-Seal"),
        *("X-SES-Configuration-Set", "Idempotency-Key"),
    ],
)
def test_a_header_of_the_system_is_refused_in_any_letter_case(name: str) -> None:
    assert find_violations(changed(headers={name: "a"})) == [
        FieldViolation(f'headers["{name}"]', "is a header that the system or the provider sets")
    ]


@pytest.mark.parametrize("name", ["X-From", "To-Do", "List-Unsubscribe", "References", "In-Reply-To", "Auto-Submitted"])
def test_a_header_that_only_resembles_one_of_the_system_is_accepted(name: str) -> None:
    assert find_violations(changed(headers={name: "a"})) == []


def test_whether_a_time_has_passed_is_not_asked_here() -> None:
    assert find_violations(changed(expire_at=Timestamp(seconds=1))) == []


def test_content_left_out_altogether_is_named() -> None:
    request = valid()
    request.ClearField("inline")
    assert bad_fields(request) == ["content"]


def test_every_bad_field_is_named_in_the_order_of_the_fields() -> None:
    request = SendEmailRequest(
        priority=9,  # type: ignore[arg-type]
        from_address="x",
        to=["a@example.com", "x"],
        cc=["x"],
        bcc=["x"],
        reply_to=["x"],
        inline=InlineContent(text="\0"),
        headers={"From": "a\n"},
        tags={"kind": "a b"},
        attachments=[Attachment(content_type="x", content_id="<>")],
        send_at=Timestamp(nanos=-1),
        expire_at=Timestamp(nanos=-1),
    )
    assert bad_fields(request) == [
        "idempotency_key", "kind", "priority", "from_address", "to[1]", "cc[0]", "bcc[0]", "reply_to[0]",
        "inline.subject", "inline.text", 'headers["From"]', 'headers["From"]',
        "attachments[0].filename", "attachments[0].content_type", "attachments[0].content", "attachments[0].content_id",
        'tags["kind"]', 'tags["kind"]', "send_at", "expire_at",
    ]  # fmt: skip


def test_fields_of_a_later_contract_are_refused_and_never_ignored() -> None:
    later = b"\xa2\x06\x02hi"  # field 100
    request = SendEmailRequest.FromString(valid().SerializeToString() + later)
    request.inline.MergeFromString(later)
    request.attachments.add(filename="f", content=b"c").MergeFromString(later)
    assert bad_fields(request) == ["field_100", "inline.field_100", "attachments[0].field_100"]


def test_hundreds_of_bad_fields_are_bounded_and_still_name_every_field_of_the_request() -> None:
    request = SendEmailRequest(
        to=["x"] * 1000,
        cc=["x"] * 1000,
        inline=InlineContent(),
        headers={f"X {index}": "\n" for index in range(1000)},
        tags={f"a {index}": "" for index in range(1000)},
        attachments=[Attachment()] * 1000,
        expire_at=Timestamp(nanos=-1),
    )
    violations = find_violations(request)
    assert len(violations) <= 50
    assert sum(len(violation.field) + len(violation.description) for violation in violations) <= 4096
    assert {violation.field.partition("[")[0].partition(".")[0] for violation in violations} == {
        "idempotency_key", "kind", "to", "cc", "inline", "headers", "tags", "attachments", "expire_at",
    }  # fmt: skip
    bad_request = BadRequest(
        field_violations=[BadRequest.FieldViolation(field=v.field, description=v.description) for v in violations]
    )
    assert bad_request.ByteSize() * 4 / 3 < 6500  # of the 8 kB that gRPC takes in trailers


_texts = st.text(max_size=40)
_requests = st.builds(
    SendEmailRequest,
    idempotency_key=_texts,
    kind=st.integers(-5, 10),
    priority=st.integers(-5, 10),
    from_address=_texts,
    to=st.lists(_texts, max_size=5),
    cc=st.lists(_texts, max_size=5),
    reply_to=st.lists(_texts, max_size=5),
    inline=st.builds(InlineContent, subject=_texts, html=_texts, text=_texts),
    headers=st.dictionaries(_texts, _texts, max_size=5),
    tags=st.dictionaries(_texts, _texts, max_size=5),
    attachments=st.lists(
        st.builds(Attachment, filename=_texts, content_type=_texts, content=st.binary(max_size=9), content_id=_texts),
        max_size=3,
    ),
)


@given(request=_requests)
def test_no_request_makes_it_raise_and_no_violation_holds_anything_unprintable(request: SendEmailRequest) -> None:
    for violation in find_violations(request):
        assert violation.field.isascii()
        assert violation.field.isprintable()
        assert violation.description.isascii()
        assert violation.description.isprintable()


@given(fields=st.lists(st.tuples(st.integers(1, 15) | st.just(99), st.binary(max_size=9) | _texts.map(str.encode))))
def test_no_message_that_can_be_parsed_makes_it_raise(fields: list[tuple[int, bytes]]) -> None:
    request = SendEmailRequest()
    for number, payload in fields:
        tag = bytes([number << 3 & 0x7F | 0x82, number >> 4])
        with suppress(DecodeError):
            request.MergeFromString(tag + bytes([len(payload)]) + payload)
    find_violations(request)
