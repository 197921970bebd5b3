"""Idempotency keys of the sandbox."""

import pytest

from sred_email_local.sandbox.idempotency import KEPT_S, IdempotencyKeys
from sred_email_local.sandbox.refusal import Refusal


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> IdempotencyKeys:
    return IdempotencyKeys(clock, most=3)


def answer(keys: IdempotencyKeys, key: str | None, fingerprint: str, body: str) -> object:
    """Answer as the provider does: the first answer again if there is one."""
    with keys.hold(key, fingerprint) as entry:
        if entry.answer is None:
            entry.answer = {"id": body}
        return entry.answer["id"]


def test_the_same_request_gets_the_first_answer_again(keys: IdempotencyKeys) -> None:
    assert answer(keys, "key", "bytes", "first") == "first"
    assert answer(keys, "key", "bytes", "second") == "first"


def test_without_a_key_every_request_counts(keys: IdempotencyKeys) -> None:
    assert [answer(keys, None, "bytes", body) for body in ("first", "second")] == ["first", "second"]


def test_another_request_under_the_key_is_refused(keys: IdempotencyKeys) -> None:
    answer(keys, "key", "bytes", "first")
    with pytest.raises(Refusal) as caught:
        answer(keys, "key", "other bytes", "second")
    assert (caught.value.status, caught.value.name) == (409, "invalid_idempotent_request")


def test_a_request_in_progress_holds_its_key(keys: IdempotencyKeys) -> None:
    with keys.hold("key", "bytes"), pytest.raises(Refusal) as caught:
        answer(keys, "key", "bytes", "second")
    assert (caught.value.status, caught.value.name) == (409, "concurrent_idempotent_requests")


def test_what_was_refused_leaves_its_key_free(keys: IdempotencyKeys) -> None:
    with pytest.raises(ValueError, match="bad"), keys.hold("key", "bytes"):
        raise ValueError("bad")
    assert answer(keys, "key", "other bytes", "second") == "second"


def test_a_key_is_forgotten_after_a_day(keys: IdempotencyKeys, clock: Clock) -> None:
    answer(keys, "key", "bytes", "first")
    clock.now_s = KEPT_S
    assert answer(keys, "key", "bytes", "second") == "first"
    clock.now_s = KEPT_S + 1
    assert answer(keys, "key", "bytes", "second") == "second"


def test_beyond_the_bound_the_oldest_key_is_forgotten(keys: IdempotencyKeys) -> None:
    for key in ("a", "b", "c", "d"):
        answer(keys, key, "bytes", f"first {key}")
    assert answer(keys, "d", "bytes", "again") == "first d"
    assert answer(keys, "a", "bytes", "again") == "again"


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_has_1_to_256_characters(keys: IdempotencyKeys, key: str) -> None:
    answer(keys, "k" * 256, "bytes", "first")
    with pytest.raises(Refusal) as caught:
        answer(keys, key, "bytes", "first")
    assert (caught.value.status, caught.value.name) == (400, "invalid_idempotency_key")
