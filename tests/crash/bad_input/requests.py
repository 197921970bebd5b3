"""Requests to send an email as no sane caller makes them: right but for some fields, or right at the very limit."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from support.world import email_request

Draw = Callable[[st.SearchStrategy[Any]], Any]
Change = Callable[[Draw, SendEmailRequest], None]

HARMLESS = "aé中\U0001f600\U0010ffff\xad\u200b\u202e\ufeff\ufffd\uffff -_.#%&'"
FINE_ADDRESSES = [
    "a@example.com",
    "Ada <a@example.com>",
    '"A, B" <a@example.com>',
    "Müller <a@example.com>",
    "a@bücher.de",
]
ODD = '\x00\x01\t\n\r\x1b\x7f\x85\xad\u200b\u2028\u2029\u202e\ufeff\ufffd\uffff\U0001f600\U0010ffff<>@",;:\\/ .é中a'
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(ODD, max_size=30),
    st.sampled_from(
        ["", " ", "\r\nBcc: eve@example.com", "{{7*7}}", "%s%n", "'; DROP TABLE email_send_log; --", "\x00"]
    ),
)
INT32 = st.one_of(st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 6, 7, 99, 2**31 - 1]), st.integers(-(2**31), 2**31 - 1))
SECONDS = st.sampled_from(
    [
        *(-(2**63), -62_135_596_801, -62_135_596_800, -1, 0, 1, 1_700_000_000),
        *(253_402_300_799, 253_402_300_800, 2**63 - 1),
    ]
)
NANOS = st.sampled_from([-(2**31), -1, 0, 1, 999_999_999, 1_000_000_000, 2**31 - 1])
BAD_ADDRESSES = [
    *(
        "",
        "@",
        "a@",
        "@example.com",
        "a b@example.com",
        "a@example..com",
        "a@[127.0.0.1]",
        "ä@example.com",
        "<a@b.c",
        "a@b.c>",
    ),
    *("a@example.com, b@example.com", "A\x00 <a@example.com>", "A\r\nTo: x <a@example.com>", "a@xn--0.com"),
]
ADDRESSES = st.one_of(
    st.sampled_from(FINE_ADDRESSES + BAD_ADDRESSES),
    TEXTS,
    TEXTS.map(lambda text: f"{text} <a@example.com>"),
    TEXTS.map(lambda text: f'"{text}" <a@example.com>'),
    TEXTS.map(lambda text: f"{text}@example.com"),
    TEXTS.map(lambda text: f"a@{text}.com"),
    st.sampled_from([63, 64, 65, 242, 243, 254, 500, 513, 100_000]).map(lambda size: "a" * size + "@example.com"),
    st.sampled_from([63, 64, 250, 253, 254, 1000]).map(lambda size: "a@" + "b" * size + ".com"),
)


def texts(alphabet: str, most: int) -> st.SearchStrategy[str]:
    """Texts of these characters, at least one of them."""
    return st.text(alphabet, min_size=1, max_size=most)


def around(*limits: int) -> st.SearchStrategy[int]:
    """Sizes at a limit, right beside it and far beyond."""
    return st.sampled_from(
        sorted({0, 1, *(n for limit in limits for n in (limit - 1, limit, limit + 1)), 20 * limits[-1]})
    )


def texts_around(*limits: int, of: str = "xé中\U0001f600") -> st.SearchStrategy[str]:
    """Texts of such sizes, or odd ones."""
    return st.one_of(TEXTS, st.builds(lambda size, what: what * size, around(*limits), st.sampled_from(of)))


def _key(draw: Draw, request: SendEmailRequest) -> None:
    own = request.idempotency_key
    sized = around(256).map(lambda size: (own + "~" * size)[:size])
    request.idempotency_key = draw(st.one_of(sized, TEXTS.map(lambda text: own + text)))


def _enums(draw: Draw, request: SendEmailRequest) -> None:
    request.kind = draw(INT32)
    request.priority = draw(INT32)


def _sender(draw: Draw, request: SendEmailRequest) -> None:
    request.from_address = draw(ADDRESSES)


def _recipients(draw: Draw, request: SendEmailRequest) -> None:
    del request.to[:]
    for field in (request.to, request.cc, request.bcc, request.reply_to):
        field.extend(["a@example.com"] * draw(st.sampled_from([0, 0, 1, 1, 2, 49, 50, 51, 5000])))
        field.extend(draw(st.lists(ADDRESSES, max_size=2)))


def _inline(draw: Draw, request: SendEmailRequest) -> None:
    request.inline.subject = draw(texts_around(998))
    request.inline.html = draw(texts_around(64 * 1024, of="x中"))
    request.inline.text = draw(TEXTS)


def _no_inline(draw: Draw, request: SendEmailRequest) -> None:
    if draw(st.booleans()):
        request.ClearField("inline")
    else:
        request.template.template_id = draw(TEXTS)
        request.template.variables.update({draw(TEXTS): {"deep": [None, 1.5, float("nan"), {"deeper": draw(TEXTS)}]}})


def _map(names: st.SearchStrategy[str], values: st.SearchStrategy[str], limit: int, field: str) -> Change:
    def change(draw: Draw, request: SendEmailRequest) -> None:
        entries = {f"x-{number}": "v" for number in range(draw(st.one_of(st.just(0), around(limit))))}
        getattr(request, field).update(entries | draw(st.dictionaries(names, values, max_size=3)))

    return change


_headers = _map(
    st.one_of(texts_around(126, of="x"), st.sampled_from(["From", "to", "X-SES-x", "x-y", "List-Unsubscribe", "a:b"])),
    texts_around(998),
    50,
    "headers",
)
_tags = _map(
    st.one_of(texts_around(256, of="x"), st.sampled_from(["email_id", "kind", "Kind", "a.b"])),
    texts_around(256, of="x"),
    73,
    "tags",
)


def _attachments(draw: Draw, request: SendEmailRequest) -> None:
    for _ in range(draw(st.sampled_from([1, 1, 2, 99, 100, 101, 5000]))):
        request.attachments.add(filename="a.txt", content=b"x")
    odd = request.attachments.add(
        filename=draw(texts_around(255)),
        content_type=draw(
            st.one_of(texts_around(255), st.sampled_from(["text/plain", "text/plain; charset=utf-8", "/"]))
        ),
        content=draw(st.binary(max_size=100)),
        content_id=draw(texts_around(127, of="x")),
    )
    odd.content += b"x" * draw(st.sampled_from([0, 1, 100_000]))


def _expiry(draw: Draw, request: SendEmailRequest) -> None:
    request.expire_at.seconds = draw(SECONDS)
    request.expire_at.nanos = draw(NANOS)


def _schedule(draw: Draw, request: SendEmailRequest) -> None:
    request.send_at.seconds = draw(SECONDS)
    request.send_at.nanos = draw(NANOS)


def _unknown_fields(draw: Draw, request: SendEmailRequest) -> None:
    unknown = draw(
        st.sampled_from([b"\xf8\x7f\x01", b"\xfa\x7f\x02hi", b"\xfb\x7f\xfc\x7f", b"\xfd\x7f\x00\x00\x00\x00"])
    )
    field = draw(st.sampled_from(["", "inline", "template", "expire_at", "attachments"]))
    whose: Any = getattr(request, field) if field else request
    whose = whose.add() if field == "attachments" else whose
    whose.MergeFromString(unknown * draw(st.sampled_from([1, 2, 300, 5000])))


def _fine_envelope(draw: Draw, request: SendEmailRequest) -> None:
    own = request.idempotency_key
    request.idempotency_key = own + draw(st.text([chr(code) for code in range(32, 127)], max_size=216))
    request.kind = draw(st.integers(1, 6))
    request.priority = draw(st.integers(0, 3))
    request.expire_at.seconds = draw(st.sampled_from([4_000_000_000, 253_402_300_799]))
    request.expire_at.nanos = draw(st.sampled_from([0, 999_999_999]))


def _fine_recipients(draw: Draw, request: SendEmailRequest) -> None:
    addresses = st.one_of(
        st.sampled_from(FINE_ADDRESSES),
        st.integers(64, 100).map(lambda size: "a" * size + "@" + "b" * 63 + "." + "c" * 63 + ".com"),
        texts(HARMLESS, 40).map(lambda text: f'"{text}" <a@example.com>'),
    )
    request.from_address = draw(addresses)
    for field in (request.to, request.cc, request.bcc, request.reply_to):
        field.extend(draw(st.lists(addresses, max_size=2)))
    free = 50 - len(request.to) - len(request.cc) - len(request.bcc)
    request.bcc.extend(["a@example.com"] * draw(st.sampled_from([0, 1, free])))


def _fine_content(draw: Draw, request: SendEmailRequest) -> None:
    request.inline.subject = draw(st.one_of(texts(HARMLESS, 998), st.sampled_from(HARMLESS).map(lambda c: c * 998)))
    request.inline.html = draw(st.one_of(texts(ODD[1:], 5000), around(64 * 1024).map(lambda size: "中" * size)))
    request.inline.text = draw(texts(ODD[1:], 5000))


def _fine_maps(draw: Draw, request: SendEmailRequest) -> None:
    named = st.integers(0, 10**6).map(lambda number: f"x-{number}")
    request.headers.update(
        draw(st.dictionaries(named, st.one_of(texts(HARMLESS, 20), st.just("é" * 998)), max_size=50))
    )
    request.tags.update(draw(st.dictionaries(named, st.sampled_from(["v", "v" * 256]), max_size=73)))


def _fine_attachments(draw: Draw, request: SendEmailRequest) -> None:
    for _ in range(draw(st.sampled_from([1, 2, 100]))):
        request.attachments.add(filename=draw(texts(HARMLESS, 20)) + "x" * 235, content=draw(st.binary(min_size=1)))


TEXT_FIELDS: dict[str, Callable[[SendEmailRequest, str], Any]] = {
    "key": lambda r, text: setattr(r, "idempotency_key", r.idempotency_key + text),
    "sender": lambda r, text: setattr(r, "from_address", f"A{text}b <a@example.com>"),
    "name": lambda r, text: r.to.append(f'"A{text}b" <a@example.com>'),
    "local part": lambda r, text: r.cc.append(f"a{text}b@example.com"),
    "domain": lambda r, text: r.bcc.append(f"a@example{text}.com"),
    "answers": lambda r, text: r.reply_to.append(text + "a@example.com" + text),
    "subject": lambda r, text: setattr(r.inline, "subject", f"a{text}b"),
    "html": lambda r, text: setattr(r.inline, "html", f"a{text}b"),
    "text": lambda r, text: setattr(r.inline, "text", f"a{text}b"),
    "header": lambda r, text: r.headers.update({f"x-{text}": "v"}),
    "value of a header": lambda r, text: r.headers.update({"x-a": f"a{text}b"}),
    "tag": lambda r, text: r.tags.update({f"a{text}b": "v"}),
    "value of a tag": lambda r, text: r.tags.update({"a": f"a{text}b"}),
    "filename": lambda r, text: r.attachments.add(filename=f"a{text}b", content=b"x"),
    "type": lambda r, text: r.attachments.add(filename="a", content=b"x", content_type=f"text/pl{text}ain"),
    "content id": lambda r, text: r.attachments.add(filename="a", content=b"x", content_id=f"a{text}b"),
}
FINE: list[Change] = [_fine_envelope, _fine_recipients, _fine_content, _fine_maps, _fine_attachments]
BAD: list[Change] = [
    *(_key, _enums, _sender, _recipients, _inline, _no_inline, _headers, _tags),
    *(_attachments, _expiry, _schedule, _unknown_fields),
]


@st.composite
def send_requests(draw: Draw) -> SendEmailRequest:
    """A request, mostly under a key of its own: unusual, and in half of the cases wrong in one or two ways."""
    request = email_request("Hello", idempotency_key=f"key-{draw(st.uuids())}")
    for change in draw(st.lists(st.sampled_from(FINE), max_size=3, unique=True)):
        change(draw, request)
    if draw(st.booleans()):
        for change in draw(st.lists(st.sampled_from(BAD), min_size=1, max_size=2, unique=True)):
            change(draw, request)
    return request
