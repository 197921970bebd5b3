"""What the provider's answers mean: each row of the table in the design, and whatever else may come instead."""

import json
from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred_email_consumer.outcome import Accepted, Failure, FailureKind, interpret, provider_limit

PROXY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def error_body(name: str, message: str = "What the provider says.", status: int = 400) -> bytes:
    return body({"statusCode": status, "name": name, "message": message})


def interpret_one(status: int, answer: bytes, headers: Mapping[str, str] | None = None) -> Accepted | Failure:
    return interpret(status, headers or {}, answer, emails=1, batch=False)


def interpret_batch(answer: object, emails: int) -> Accepted | Failure:
    return interpret(200, {}, body(answer), emails=emails, batch=True)


def failure(status: int, answer: bytes, headers: Mapping[str, str] | None = None) -> Failure:
    result = interpret_one(status, answer, headers)
    assert isinstance(result, Failure)
    return result


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (429, "rate_limit_exceeded", FailureKind.RATE_LIMITED),
        (429, "daily_quota_exceeded", FailureKind.QUOTA_EXHAUSTED),
        (429, "monthly_quota_exceeded", FailureKind.QUOTA_EXHAUSTED),
        (409, "concurrent_idempotent_requests", FailureKind.KEY_IN_USE),
        (409, "resource_locked", FailureKind.KEY_IN_USE),
        (409, "invalid_idempotent_request", FailureKind.KEY_SPENT),
        (500, "application_error", FailureKind.OUTCOME_UNKNOWN),
        (500, "internal_server_error", FailureKind.OUTCOME_UNKNOWN),
        (503, "service_unavailable", FailureKind.OUTCOME_UNKNOWN),
        (504, "gateway_timeout", FailureKind.OUTCOME_UNKNOWN),
        (599, "anything", FailureKind.OUTCOME_UNKNOWN),
        (408, "request_timeout", FailureKind.OUTCOME_UNKNOWN),
        (401, "missing_api_key", FailureKind.MISCONFIGURED),
        (401, "restricted_api_key", FailureKind.MISCONFIGURED),
        (403, "invalid_api_key", FailureKind.MISCONFIGURED),
        (403, "suspended_account", FailureKind.MISCONFIGURED),
        (403, "invalid_permission", FailureKind.MISCONFIGURED),
        (404, "not_found", FailureKind.MISCONFIGURED),
        (405, "method_not_allowed", FailureKind.MISCONFIGURED),
        (403, "validation_error", FailureKind.DOMAIN_REFUSED),
        (400, "validation_error", FailureKind.REJECTED),
        (413, "payload_too_large", FailureKind.REJECTED),
        (422, "validation_error", FailureKind.REJECTED),
        (422, "missing_required_field", FailureKind.REJECTED),
        (451, "security_error", FailureKind.REJECTED),
        (418, "a_name_of_tomorrow", FailureKind.REJECTED),
        (409, "a_name_of_tomorrow", FailureKind.REJECTED),
    ],
)
def test_status_and_name_together_decide(status: int, name: str, kind: FailureKind) -> None:
    assert failure(status, error_body(name, status=status)).kind is kind


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (422, "rate_limit_exceeded", FailureKind.REJECTED),
        (400, "daily_quota_exceeded", FailureKind.REJECTED),
        (400, "invalid_idempotent_request", FailureKind.REJECTED),
        (401, "validation_error", FailureKind.MISCONFIGURED),
        (500, "validation_error", FailureKind.OUTCOME_UNKNOWN),
        (500, "invalid_idempotent_request", FailureKind.OUTCOME_UNKNOWN),
        (503, "rate_limit_exceeded", FailureKind.OUTCOME_UNKNOWN),
        (302, "validation_error", FailureKind.MISCONFIGURED),
        (202, "validation_error", FailureKind.OUTCOME_UNKNOWN),
    ],
)
def test_a_name_with_another_status_does_not_decide_by_itself(status: int, name: str, kind: FailureKind) -> None:
    assert failure(status, error_body(name, status=status)).kind is kind


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_a_wrong_address_of_the_api(status: int) -> None:
    assert failure(status, b"", {"location": "https://elsewhere.example"}).kind is FailureKind.MISCONFIGURED


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 299])
@pytest.mark.parametrize("answer", [b"", b'{"id": "m"}', PROXY_PAGE])
def test_another_2xx_than_200_may_have_been_an_acceptance(status: int, answer: bytes) -> None:
    assert failure(status, answer).kind is FailureKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 409, 410, 413, 418, 421, 422, 451, 499])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        PROXY_PAGE,
        b"Forbidden",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"validation_error"',
        b"{}",
        b'{"error": "no"}',
        b'{"name": "validation_error"}',
        b'{"message": "no"}',
        b'{"name": 1, "message": "no"}',
        b'{"name": "validation_error", "message": null}',
        b'{"name": "", "message": "no"}',
        b'{"name": "validation_error", "message": "cut o',
    ],
)
def test_a_4xx_whose_body_is_not_the_apis_is_never_one_emails_fault(status: int, answer: bytes) -> None:
    assert failure(status, answer).kind is FailureKind.MISCONFIGURED


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 524])
@pytest.mark.parametrize("answer", [b"", PROXY_PAGE, b"null", b'{"message": "upstream"}'])
def test_a_timeout_or_5xx_is_an_unknown_outcome_whoever_answers(status: int, answer: bytes) -> None:
    assert failure(status, answer).kind is FailureKind.OUTCOME_UNKNOWN


def test_a_429_of_a_proxy_waits_like_any_429() -> None:
    answer = failure(429, PROXY_PAGE, {"retry-after": "7"})
    assert answer.kind is FailureKind.RATE_LIMITED
    assert answer.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        PROXY_PAGE,
        b"null",
        b"[]",
        b"{}",
        b'{"id": ""}',
        b'{"id": null}',
        b'{"id": 5}',
        b'{"id": ["m"]}',
        b'{"data": [{"id": "m"}]}',
        b'{"id": "m"',
    ],
)
def test_a_200_without_a_message_id_is_an_unknown_outcome(answer: bytes) -> None:
    assert failure(200, answer).kind is FailureKind.OUTCOME_UNKNOWN


def test_a_200_tells_the_message_id_of_a_lone_email() -> None:
    assert interpret_one(200, b'{"id": "m-1", "object": "email"}') == Accepted({0: "m-1"}, {})


def test_a_200_tells_the_message_id_of_each_email_of_a_batch_in_order() -> None:
    assert interpret_batch({"data": [{"id": "a"}, {"id": "b"}]}, 2) == Accepted({0: "a", 1: "b"}, {})


@pytest.mark.parametrize("nothing", [None, []])
def test_a_batch_without_errors_may_say_so_in_any_way(nothing: object) -> None:
    assert interpret_batch({"data": [{"id": "a"}], "errors": nothing}, 1) == Accepted({0: "a"}, {})


def test_permissive_errors_say_which_members_were_refused_and_the_ids_belong_to_the_others() -> None:
    answer = {
        "data": [{"id": "b"}, {"id": "d"}],
        "errors": [{"index": 2, "message": "bad address"}, {"index": 0, "message": "no subject"}],
    }
    assert interpret_batch(answer, 4) == Accepted({1: "b", 3: "d"}, {0: "no subject", 2: "bad address"})


def test_a_batch_may_be_refused_member_by_member_altogether() -> None:
    answer = {"data": [], "errors": [{"index": 0, "message": "x"}, {"index": 1}]}
    assert interpret_batch(answer, 2) == Accepted({}, {0: "x", 1: "refused"})


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"id": "a"}]},
        {"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}]},
        {"data": [{"id": "a"}, {"id": "b"}], "errors": [{"index": 0, "message": "x"}]},
        {"data": [{"id": "a"}], "errors": [{"index": 0, "message": "x"}, {"index": 1, "message": "y"}]},
        {"data": [], "errors": [{"index": 0, "message": "x"}]},
        {"data": {"id": "a"}},
        {"data": "ab"},
        {"errors": [{"index": 0, "message": "x"}, {"index": 1, "message": "y"}]},
        {"data": [{"id": "a"}, {}]},
        {"data": [{"id": "a"}, None]},
        {"data": [{"id": "a"}, "b"]},
        {"data": [{"id": "a"}, {"id": ""}]},
        {"data": [{"id": "a"}, {"id": 7}]},
        {"data": [{"id": "a"}], "errors": {"index": 1, "message": "x"}},
        {"data": [{"id": "a"}], "errors": ["x"]},
        [{"id": "a"}, {"id": "b"}],
        {"id": "a"},
        None,
    ],
)
def test_a_batch_answer_that_does_not_add_up_is_not_guessed_at(answer: object) -> None:
    result = interpret_batch(answer, 2)
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize("index", [-1, 2, 100, "1", 1.0, None, True, [1], {"at": 1}])
def test_a_permissive_error_about_no_member_of_the_batch_is_not_guessed_at(index: object) -> None:
    result = interpret_batch({"data": [{"id": "a"}], "errors": [{"index": index, "message": "x"}]}, 2)
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.OUTCOME_UNKNOWN


def test_two_permissive_errors_about_one_member_are_not_guessed_at() -> None:
    errors = [{"index": 1, "message": "x"}, {"index": 1, "message": "y"}]
    result = interpret_batch({"data": [{"id": "a"}], "errors": errors}, 3)
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("0.5", 0.5), (" 30 ", 30), ("3600", 3600), ("86400", 86400), ("2678400", 2678400)],
)
def test_retry_after_is_read_in_seconds(text: str, seconds: float) -> None:
    answer = failure(429, error_body("rate_limit_exceeded"), {"retry-after": text})
    assert answer.retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "-1",
        "-0.1",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "2678401",
        "9" * 400,
        "1,5",
        "1 2",
        "0x10",
        "5s",
        "Wed, 21 Oct 2026 07:28:00 GMT",
        "\x00",
        "é",
    ],
)
def test_an_odd_retry_after_counts_as_absent(text: str) -> None:
    assert failure(503, b"", {"retry-after": text}).retry_after is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_retry_after_comes_along_with_every_failure(status: int) -> None:
    assert failure(status, b"", {"retry-after": "9"}).retry_after == timedelta(seconds=9)


def test_an_error_tells_status_name_and_the_providers_words() -> None:
    assert failure(422, error_body("validation_error", "Invalid `to`.")).error == "422 validation_error Invalid `to`."


def test_the_error_of_a_foreign_answer_is_its_status_and_none_of_its_page() -> None:
    assert failure(502, PROXY_PAGE).error == "502"


def test_an_error_is_one_short_printable_line() -> None:
    error = failure(422, error_body("bad\nname", "line\r\nline\x00\x1b[31m\ud800 " + "x" * 5000)).error
    assert error.isprintable()
    assert len(error) <= 1000
    error.encode()


def test_the_error_of_a_refused_member_is_one_short_printable_line() -> None:
    answer = {"data": [], "errors": [{"index": 0, "message": "a\x00\n\udfff" + "x" * 5000}]}
    result = interpret_batch(answer, 1)
    assert isinstance(result, Accepted)
    assert result.errors[0].isprintable()
    assert len(result.errors[0]) <= 1000


@pytest.mark.parametrize("message_id", ["m\x00", "\ud800"])
def test_a_message_id_that_no_log_can_hold_is_not_taken_as_it_is(message_id: str) -> None:
    for result in (
        interpret_one(200, body({"id": message_id})),
        interpret_batch({"data": [{"id": message_id}]}, 1),
    ):
        if isinstance(result, Accepted):
            assert result.message_ids[0].isprintable()
        else:
            assert result.kind is FailureKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize("depth", [10, 900, 960, 990, 1000, 5000, 100_000])
def test_a_deeply_nested_body_is_only_another_bad_body(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    assert failure(422, nested).kind is FailureKind.MISCONFIGURED
    answer = b'{"data": [], "errors": [{"index": 0, "message": ' + nested + b"}]}"
    interpret(200, {}, answer, emails=1, batch=True)


@given(
    status=st.integers(100, 599) | st.integers(),
    headers=st.dictionaries(st.just("retry-after") | st.text(max_size=5), st.text(max_size=12), max_size=3),
    answer=st.binary(max_size=200) | JSON_VALUES.map(body),
    emails=st.integers(1, 100),
    batch=st.booleans(),
)
def test_no_answer_whatever_raises_and_none_but_200_is_an_acceptance(
    status: int, headers: dict[str, str], answer: bytes, emails: int, batch: bool
) -> None:
    result = interpret(status, headers, answer, emails=emails, batch=batch)
    assert isinstance(result, Failure) or status == 200


@given(
    data=st.lists(st.fixed_dictionaries({"id": st.text(max_size=3)}) | JSON_VALUES, max_size=4),
    errors=st.lists(
        st.fixed_dictionaries({"index": st.integers(-1, 5), "message": st.text(max_size=3)}) | JSON_VALUES, max_size=4
    ),
    emails=st.integers(1, 5),
)
def test_an_accepted_batch_says_of_each_member_exactly_one_thing(
    data: list[object], errors: list[object], emails: int
) -> None:
    result = interpret_batch({"data": data, "errors": errors}, emails)
    if isinstance(result, Accepted):
        assert sorted([*result.message_ids, *result.errors]) == list(range(emails))
        assert all(result.message_ids.values())
    else:
        assert result.kind is FailureKind.OUTCOME_UNKNOWN


@given(status=st.integers(400, 499), name=st.text(max_size=8), message=st.text(max_size=8))
def test_only_the_apis_own_words_can_reject_an_email(status: int, name: str, message: str) -> None:
    if failure(status, error_body(name, message)).kind is FailureKind.REJECTED:
        assert name
        assert status not in (401, 403, 404, 405, 408, 429)


@given(status=st.integers(500, 599), answer=st.binary(max_size=50) | JSON_VALUES.map(body))
def test_no_5xx_is_ever_definite(status: int, answer: bytes) -> None:
    assert failure(status, answer).kind is FailureKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({}, None),
        ({"ratelimit-limit": "10"}, 10),
        ({"ratelimit-limit": "2", "ratelimit-policy": "2;w=1"}, 2),
        ({"ratelimit-limit": "100", "ratelimit-policy": "100;w=10"}, 10),
        ({"ratelimit-limit": "100", "ratelimit-policy": "100;w=86400"}, None),  # a quota, which no spacing keeps
        ({"ratelimit-limit": "10, 10;w=1"}, 10),
        ({"ratelimit-limit": "0"}, None),
        ({"ratelimit-limit": "many"}, None),
    ],
)
def test_the_limit_is_what_the_headers_allow_in_a_second(headers: dict[str, str], limit: float | None) -> None:
    assert provider_limit(headers) == limit


def test_only_the_api_itself_names_a_limit() -> None:
    headers = {"ratelimit-limit": "1"}
    proxy = interpret(503, headers, b"<html>", emails=1, batch=False)
    api = interpret(429, headers, b'{"name": "rate_limit_exceeded", "message": "Slow down."}', emails=1, batch=False)
    assert isinstance(proxy, Failure)
    assert isinstance(api, Failure)
    assert (proxy.provider_limit, proxy.answered) == (None, False)
    assert (api.provider_limit, api.answered) == (1, True)
