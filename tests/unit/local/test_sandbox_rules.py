"""Reading and matching the rules by which the sandbox fails."""

import pytest

from sred_email_local.sandbox.rules import Action, RuleError, Rules, read_rules


def email(subject: str = "Hello", to: str = "ada@example.com") -> dict[str, object]:
    return {"subject": subject, "to": [to]}


def test_a_rule_without_patterns_matches_every_request() -> None:
    rules = Rules()
    rules.replace(read_rules({"rules": [{"action": "reset"}]}))
    rule = rules.take([email()])
    assert rule is not None
    assert rule.action is Action.RESET


def test_all_patterns_of_a_rule_must_match_one_email() -> None:
    rules = Rules()
    rules.replace(read_rules({"rules": [{"subject": "^Reset", "to": "@bad\\.example$"}]}))
    assert rules.take([email("Reset it"), email(to="x@bad.example")]) is None
    assert rules.take([email(), email("Reset it", "x@bad.example")]) is not None


def test_the_first_rule_that_matches_applies_as_often_as_it_says() -> None:
    rules = Rules()
    rules.replace(read_rules({"rules": [{"status": 500, "times": 2}, {"status": 503}]}))
    taken = [rules.take([email()]) for _ in range(3)]
    assert [rule.status for rule in taken if rule] == [500, 500, 503]


def test_a_rejection_looks_like_a_validation_error() -> None:
    (rule,) = read_rules({"rules": [{"action": "reject"}]})
    assert (rule.status, rule.name) == (422, "validation_error")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be"),
        ({"rules": ["x"]}, "a rule must be an object"),
        ({"rules": [{"action": "explode"}]}, "action: 'explode'"),
        ({"rules": [{"subject": "("}]}, "subject: missing"),
        ({"rules": [{"status": 99}]}, "status cannot be 99"),
        ({"rules": [{"colour": "red"}]}, "colour cannot be 'red'"),
    ],
)
def test_a_rule_that_cannot_be_read_says_why(body: object, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        read_rules(body)
