"""The tokens file: what it says, and what is wrong with it."""

import hashlib

import pytest

from sred_email_core.access.gate import Gate
from sred_email_core.access.tokens import BadTokensError, Scope, TokenBook, parse_tokens
from sred_email_core.errors import PermissionDeniedError, UnauthenticatedError


def line(name: str, scopes: str, token: str) -> str:
    return f"{name} {scopes} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def test_a_token_is_known_by_its_digest_and_has_the_scopes_of_its_line() -> None:
    text = "# callers\n\n" + line("shop", "send,read", "first") + line("console", "operate", "second  ").upper().lower()
    grant = parse_tokens(text).find("first")
    assert grant is not None
    assert grant.caller == "shop"
    assert grant.scopes == {Scope.SEND, Scope.READ}


def test_a_caller_may_have_two_tokens_while_one_replaces_the_other() -> None:
    book = parse_tokens(line("shop", "send", "old") + line("shop", "send", "new"))
    assert [book.find(token) is not None for token in ("old", "new", "other")] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        ("shop send", "line 1: must be a name"),
        ("\nshop send sha256:abc", "line 2: the last word must be sha256:"),
        ("shop send hunter2hunter2", "line 1: the last word must be sha256:"),
        ("sh/op send sha256:" + 64 * "0", "line 1: the name must be"),
        ("shop write sha256:" + 64 * "0", "line 1: the scopes must be some of send, read, operate"),
        ("shop send,,read sha256:" + 64 * "0", "line 1: the scopes must be"),
        (2 * ("shop send sha256:" + 64 * "0" + "\n"), "line 2: the token stands in an earlier line"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_the_remedy(text: str, told: str) -> None:
    with pytest.raises(BadTokensError) as refused:
        parse_tokens(text)
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_every_bad_line_is_named() -> None:
    with pytest.raises(BadTokensError, match=r"line 1: .*; line 3: "):
        parse_tokens("shop send\n" + line("shop", "send", "x") + "shop read\n")


def test_the_representation_of_a_grant_shows_no_digest() -> None:
    (grant,) = parse_tokens(line("shop", "send", "x")).grants
    assert hashlib.sha256(b"x").hexdigest() not in repr(grant)


def test_what_left_the_file_is_revoked_and_what_stayed_is_not() -> None:
    gate = Gate(TokenBook(()))
    gate.replace(parse_tokens(line("shop", "send,read", "a") + line("shop", "send,read", "b") + line("x", "read", "c")))
    grants = {token: gate.admit([("authorization", f"Bearer {token}")], Scope.READ, "Get") for token in "abc"}
    gate.replace(parse_tokens(line("shop", "send,read", "a") + line("x", "read,send", "c") + line("y", "read", "d")))
    assert {token: grant.revoked.is_set() for token, grant in grants.items()} == {"a": False, "b": True, "c": True}
    assert gate.admit([("authorization", "bearer a")], None, "Get") is grants["a"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "TOKEN_MISSING"),
        ([("authorization", "good")], "TOKEN_MISSING"),
        ([("authorization", "Basic good")], "TOKEN_MISSING"),
        ([("authorization", "Bearer good"), ("authorization", "Bearer good")], "TOKEN_MISSING"),
        ([("authorization", "Bearer ")], "TOKEN_UNKNOWN"),
        ([("authorization", "Bearer Good")], "TOKEN_UNKNOWN"),
        ([("authorization", "Bearer " + "good" * 1000)], "TOKEN_UNKNOWN"),
        ([("authorization", "Bearer \udcff")], "TOKEN_UNKNOWN"),
    ],
)
def test_who_is_not_known_is_told_what_to_send(metadata: list[tuple[str, str]], reason: str) -> None:
    gate = Gate(parse_tokens(line("shop", "send", "good")))
    with pytest.raises(UnauthenticatedError) as refused:
        gate.admit(metadata, None, "/sred.email.v1.X/SendEmail")
    assert refused.value.reason == reason
    assert "good" not in str(refused.value).lower()


def test_who_is_known_but_may_not_is_told_which_scope_is_missing() -> None:
    gate = Gate(parse_tokens(line("shop", "send", "good")))
    with pytest.raises(PermissionDeniedError, match=r"token of shop lacks the scope operate, which .*Pause"):
        gate.admit([("authorization", "Bearer good")], Scope.OPERATE, "/sred.email.v1.X/PauseDelivery")
