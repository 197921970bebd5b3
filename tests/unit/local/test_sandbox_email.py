"""What the sandbox takes for an email, and the words in which it refuses the rest."""

import base64

import pytest

from sred_email_local.sandbox.email import peek_recipients, peek_subject, read_email
from sred_email_local.sandbox.refusal import Refusal


def email(**changes: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "from": "SREDSimplify <hello@sredsimplify.example>",
        "to": ["ada@example.com"],
        "subject": "Hello",
        "text": "Hello, Ada",
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def test_one_address_may_stand_without_a_list() -> None:
    assert read_email(email(to="ada@example.com", reply_to="x@y.example"), in_batch=True).to == ("ada@example.com",)


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"from": None}, "missing_required_field", "Missing `from` field."),
        ({"to": None}, "missing_required_field", "Missing `to` field."),
        ({"to": []}, "missing_required_field", "Missing `to` field."),
        ({"subject": None}, "missing_required_field", "Missing `subject` field."),
        ({"text": None}, "missing_required_field", "Missing `html` or `text` field."),
        ({"from": "nobody"}, "validation_error", "Invalid `from` field."),
        ({"to": ["ada@example.com", "not an address"]}, "validation_error", "Invalid `to` field."),
        ({"cc": "Ada <ada@example.com"}, "validation_error", "Invalid `cc` field."),
        ({"reply_to": ["a@b"]}, "validation_error", "Invalid `reply_to` field."),
        ({"to": [f"a{n}@example.com" for n in range(51)]}, "validation_error", "must not exceed 50"),
        ({"subject": 7}, "validation_error", "The `subject` field must be a string."),
        ({"tags": [{"name": "kind", "value": "no spaces"}]}, "validation_error", "Tags should only contain"),
        ({"tags": [{"name": "kind"}]}, "validation_error", "Each tag needs"),
        ({"headers": {"X-One": 1}}, "validation_error", "The `headers` field"),
        ({"attachments": [{"filename": "a.txt"}]}, "invalid_attachment", "`content` or `path`"),
        ({"attachments": [{"content": "%%%"}]}, "validation_error", "must be Base64"),
        ({"attachments": {}}, "validation_error", "must be an array"),
    ],
)
def test_a_fault_is_refused_in_the_words_of_the_api(changes: dict[str, object], name: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_email(email(**changes), in_batch=False)
    assert (caught.value.status, caught.value.name) == (422, name)
    assert message in caught.value.message


def test_fifty_recipients_in_all_are_taken() -> None:
    whole = email(to=[f"a{n}@example.com" for n in range(48)], cc=["c@example.com"], bcc=["d@example.com"])
    assert len(read_email(whole, in_batch=False).to) == 48


@pytest.mark.parametrize("field", ["attachments", "scheduled_at"])
def test_a_batch_takes_neither_files_nor_a_time(field: str) -> None:
    values: dict[str, object] = {"attachments": [{"content": "aGk="}], "scheduled_at": "2030-01-01T00:00:00Z"}
    read_email(email(**{field: values[field]}), in_batch=False)
    with pytest.raises(Refusal, match=field):
        read_email(email(**{field: values[field]}), in_batch=True)


def test_files_are_decoded() -> None:
    content = base64.b64encode(b"a,b").decode()
    whole = email(attachments=[{"filename": "a.csv", "content": content, "content_type": "text/csv"}])
    (attachment,) = read_email(whole, in_batch=False).attachments
    assert (attachment.filename, attachment.content_type, attachment.content) == ("a.csv", "text/csv", b"a,b")


@pytest.mark.parametrize("source", [None, [], "text", 1, {"subject": 3, "to": {}}, {"to": [1]}])
def test_peeking_into_anything_at_all_finds_nothing(source: object) -> None:
    assert peek_subject(source) == ""
    assert peek_recipients(source) == ()
    with pytest.raises(Refusal):
        read_email(source, in_batch=False)
