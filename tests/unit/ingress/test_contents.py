"""Content made from templates: what is wrong is named as the caller wrote it, and told rather than raised."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import EmailKind, InlineContent, TemplateContent
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_ingress.contents import ContentComposer, templates_of
from sred_email_ingress.senders import SenderPolicy
from sred_email_ingress.validation import MAX_EMAIL_BYTES, find_violations
from sred_email_templates import Product
from sred_email_templates.declaration import KINDS

COMPOSER = ContentComposer(SenderPolicy("Test <test@example.com>"), templates_of(Product(), None), KeyRingFile(None))
RESET = {"reset_url": "https://example.com/reset/1", "expires_in": "one hour"}


def templated(template_id: str = "password-reset", kind: str = "PASSWORD_RESET", **variables: Any) -> SendEmailRequest:
    values = Struct()
    values.update(variables)
    return SendEmailRequest(
        idempotency_key="key",
        kind=EmailKind.Value(f"EMAIL_KIND_{kind}"),
        to=["ada@example.com"],
        template=TemplateContent(template_id=template_id, variables=values),
    )


def violations(request: SendEmailRequest) -> dict[str, str]:
    assert find_violations(request) == []
    _, found = COMPOSER.compose(request)
    return {violation.field: violation.description for violation in found}


def test_a_template_becomes_subject_html_and_text() -> None:
    content, found = COMPOSER.compose(templated(**RESET, name="<Ada>"))
    assert found == []
    assert content.subject == "Choose a new password for SREDSimplify"
    assert "Hello &lt;Ada&gt;," in content.html
    assert "Hello <Ada>," in content.text
    assert content.html.count('href="https://example.com/reset/1"') == 2
    assert content.from_address == "Test <test@example.com>"


def test_inline_content_stays_as_it_is() -> None:
    inline = InlineContent(subject="{{ x }}", html="<b>{{ y }}</b>", text="{% z %}")
    content, found = COMPOSER.compose(SendEmailRequest(to=["a@example.com"], inline=inline))
    assert (found, content.subject, content.html, content.text) == ([], "{{ x }}", "<b>{{ y }}</b>", "{% z %}")


def test_all_missing_variables_are_named_as_fields() -> None:
    assert violations(templated(name="Ada")) == {
        "template.variables.reset_url": "is missing (where a new password is chosen)",
        "template.variables.expires_in": "is missing (how long the link works, in words)",
    }


def test_null_is_no_value() -> None:
    assert list(violations(templated(reset_url=RESET["reset_url"], expires_in=None))) == [
        "template.variables.expires_in"
    ]
    assert violations(templated(**RESET, name=None)) == {}


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    assert violations(templated("passwort-reset", **RESET)) == {
        "template.template_id": "is no template known here: one of email-confirmation, password-reset, quota-warning, "
        "subscription-changed, system-notification, welcome"
    }


def test_a_template_is_for_its_kind_only() -> None:
    assert violations(templated(kind="WELCOME", **RESET)) == {
        "kind": "must be PASSWORD_RESET: the template password-reset is for this kind"
    }


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert list(violations(templated(kind="WELCOME", reset_url="javascript:alert(1)", nmae="x"))) == [
        "kind",
        "template.variables.reset_url",
        "template.variables.expires_in",
        "template.variables.nmae",
    ]


def test_structs_and_lists_reach_the_template() -> None:
    content, found = COMPOSER.compose(
        templated(
            "system-notification",
            "SYSTEM_NOTIFICATION",
            title="T",
            message="M\r\nN",
            details=[{"label": "L", "value": 2.0}, {"label": "<", "value": "V"}],
        )
    )
    assert found == []
    assert "L: 2\n<: V\n" in content.text
    assert "M<br>\nN" in content.html


@pytest.mark.parametrize("value", [{"a": 1}, [1], True])
def test_a_value_of_another_type_is_named(value: object) -> None:
    assert violations(templated(reset_url=RESET["reset_url"], expires_in=value)) == {
        "template.variables.expires_in": "must be a text"
    }


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("variables", "description"),
    [
        ({"a": "x" * 64 * 1024}, "larger than 64 kB"),
        ({"a": [0] * 2000}, "more than 2000 values"),
        ({str(number): 0 for number in range(2001)}, "more than 2000 values"),
        (nested(6), "more than 5 deep"),
        ({"a": [[[[[0]]]]]}, "more than 5 deep"),
    ],
)
def test_variables_have_bounds(variables: dict[str, Any], description: str) -> None:
    (violation,) = find_violations(templated(**variables))
    assert violation.field == "template.variables"
    assert description in violation.description


def test_variables_at_their_bounds_are_the_templates_affair() -> None:
    for variables in (nested(5), {"a": [0] * 1999}, {"a": "x" * 65_000}):
        assert find_violations(templated(**variables)) == []


def test_a_value_of_a_type_that_is_not_known_is_refused() -> None:
    request = templated(**RESET)
    request.template.variables.fields["x"].CopyFrom(Value())
    (violation,) = find_violations(request)
    assert (violation.field, violation.description) == (
        "template.variables",
        "hold a value of no type that is known here",
    )


def test_a_template_leaves_room_for_what_it_renders_beside_attachments() -> None:
    request = templated(**RESET)
    request.attachments.add(filename="f", content=b"x" * (MAX_EMAIL_BYTES * 3 // 4 - 1_000_000))
    request_without = SendEmailRequest(inline=InlineContent(subject="s", text="t"), attachments=request.attachments)
    assert "attachments" not in {violation.field for violation in find_violations(request_without)}
    assert [violation.field for violation in find_violations(request)] == ["attachments"]


def test_templates_know_the_kinds_of_the_contract() -> None:
    contract = [name.removeprefix("EMAIL_KIND_") for name in EmailKind.keys()]  # noqa: SIM118 - no dict
    assert [name for name in contract if name != "UNSPECIFIED"] == list(KINDS)
