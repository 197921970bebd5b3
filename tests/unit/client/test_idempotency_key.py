"""What build_idempotency_key promises to callers."""

import re
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1.email_pb2 import EmailKind
from sred_email_client import build_idempotency_key

KIND = EmailKind.EMAIL_KIND_PASSWORD_RESET
ADA = "ada@example.com"

kinds = st.sampled_from([kind for kind in EmailKind.values() if kind])
recipients = st.builds(
    "{}@{}".format,
    st.text(st.characters(codec="utf-8", exclude_characters='<>@,;"', exclude_categories=["C", "Z"]), min_size=1),
    st.sampled_from(["example.com", "example.org", "xample.com"]),
)
texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))
ids = st.lists(texts, min_size=1, max_size=4)
calls = st.tuples(kinds, recipients, ids)


def test_a_key_never_changes_from_one_release_to_the_next() -> None:
    assert (
        build_idempotency_key(KIND, ADA, "reset-1")
        == "password-reset:v1:bf618198ac26ffb797e64447b9f6f3418b2bf0b4e492261d504c3d0a199eafc7"
    )


def test_equal_arguments_give_equal_keys() -> None:
    assert build_idempotency_key(KIND, ADA, "a", 2) == build_idempotency_key(KIND, ADA, "a", 2)


@pytest.mark.parametrize("kind", ["PASSWORD_RESET", "EMAIL_KIND_PASSWORD_RESET", 3])
def test_a_kind_may_be_given_by_value_or_by_name(kind: int | str) -> None:
    assert build_idempotency_key(kind, ADA, "a") == build_idempotency_key(KIND, ADA, "a")


@pytest.mark.parametrize("recipient", ["ada@EXAMPLE.com", "  ada@example.com\n"])
def test_neither_the_case_of_the_domain_nor_surrounding_whitespace_makes_another_key(recipient: str) -> None:
    assert build_idempotency_key(KIND, recipient, "a") == build_idempotency_key(KIND, ADA, "a")


def test_the_case_before_the_at_sign_makes_another_key() -> None:
    assert build_idempotency_key(KIND, "Ada@example.com", "a") != build_idempotency_key(KIND, ADA, "a")


def test_a_quoted_local_part_may_hold_what_is_special_elsewhere() -> None:
    assert build_idempotency_key(KIND, '"a, b@c"@EXAMPLE.com', "a") == build_idempotency_key(
        KIND, '"a, b@c"@example.com', "a"
    )


def test_a_number_that_became_text_on_its_way_gives_the_same_key() -> None:
    assert build_idempotency_key(KIND, ADA, 1) == build_idempotency_key(KIND, ADA, "1")


def test_a_uuid_that_became_text_on_its_way_gives_the_same_key() -> None:
    uuid = UUID("0192d3e4-5f60-7a8b-9c0d-1e2f3a4b5c6d")
    assert build_idempotency_key(KIND, ADA, uuid) == build_idempotency_key(KIND, ADA, str(uuid))


def test_a_member_of_an_enum_counts_by_its_value() -> None:
    class Number(IntEnum):
        ONE = 1

    class Word(str, Enum):  # noqa: UP042 - older code has such enums, and their str() is not their value
        ONE = "one"

    assert build_idempotency_key(KIND, ADA, Number.ONE, Word.ONE) == build_idempotency_key(KIND, ADA, 1, "one")


def test_parts_that_read_the_same_when_joined_give_different_keys() -> None:
    splits = [("1", "23"), ("12", "3"), ("123",), ("1", "2", "3"), ("1:23",), ("1,23",), ("3", "12")]
    assert len({build_idempotency_key(KIND, ADA, *split) for split in splits}) == len(splits)


@given(calls, calls)
def test_different_parts_give_different_keys(
    one: tuple[int, str, list[str]], other: tuple[int, str, list[str]]
) -> None:
    equal_keys = build_idempotency_key(one[0], one[1], *one[2]) == build_idempotency_key(other[0], other[1], *other[2])
    assert equal_keys == (one == other)


@given(kinds, recipients, st.lists(texts, min_size=2, max_size=4), st.data())
def test_moving_the_border_between_two_parts_gives_another_key(
    kind: int, recipient: str, parts: list[str], data: st.DataObject
) -> None:
    border = data.draw(st.integers(1, len(parts) - 1))
    joined = [*parts[: border - 1], parts[border - 1] + parts[border], *parts[border + 1 :]]
    assert build_idempotency_key(kind, recipient, *parts) != build_idempotency_key(kind, recipient, *joined)


@given(calls)
def test_a_key_is_short_printable_ascii_that_shows_the_kind_only(call: tuple[int, str, list[str]]) -> None:
    kind, recipient, business_ids = call
    slug = EmailKind.Name(EmailKind.ValueType(kind)).removeprefix("EMAIL_KIND_").lower().replace("_", "-")
    assert re.fullmatch(f"{slug}:v1:[0-9a-f]{{64}}", build_idempotency_key(kind, recipient, *business_ids))


def test_a_key_without_a_business_id_is_refused_and_told_why() -> None:
    with pytest.raises(ValueError, match="at least one business id is needed"):
        build_idempotency_key(KIND, ADA)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_business_id_is_refused_by_its_position(blank: str) -> None:
    with pytest.raises(ValueError, match="business id 2 is blank"):
        build_idempotency_key(KIND, ADA, "a", blank)


@pytest.mark.parametrize("kind", [0, 99, -1, "", "EMAIL_KIND_", "UNSPECIFIED", "password_reset", "RESET"])
def test_an_unknown_kind_is_refused_with_those_that_are_known(kind: int | str) -> None:
    with pytest.raises(ValueError, match=r"is not known: use one of WELCOME, .*SYSTEM_NOTIFICATION"):
        build_idempotency_key(kind, ADA, "a")


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "Ada <ada@example.com>",
        "<ada@example.com>",
        "ada@example.com, bob@example.com",
        "ada lovelace@example.com",
    ],
)
def test_what_is_no_bare_address_is_refused_and_not_repeated_in_the_error(recipient: str) -> None:
    with pytest.raises(ValueError, match=r"one bare address such as ada@example\.com, without a display name$"):
        build_idempotency_key(KIND, recipient, "a")


@pytest.mark.parametrize(
    ("kind", "recipient", "business_id"),
    [
        (None, ADA, "a"),
        (True, ADA, "a"),
        (KIND, None, "a"),
        (KIND, b"ada@example.com", "a"),
        (KIND, ADA, None),
        (KIND, ADA, True),
        (KIND, ADA, 1.0),
        (KIND, ADA, b"a"),
    ],
)
def test_an_argument_of_another_type_is_refused(kind: Any, recipient: Any, business_id: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        build_idempotency_key(kind, recipient, business_id)
