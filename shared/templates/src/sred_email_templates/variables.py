"""What callers may put into a template: values are checked and cleaned before Jinja sees them."""

import math
import re
from collections.abc import Mapping, Sequence

from sred_email_templates.declaration import Declaration, Variable, VariableType
from sred_email_templates.errors import UnusableVariablesError, VariableProblem
from sred_email_templates.urls import url_objection

MAX_ENTRIES = 200
"""Of a list."""
_MAX_NAMED = 40
_SHOWN_CHARACTERS = 40
_EXACT = 2**53
"""From here on a double may not be the whole number that was meant."""
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""What steers a terminal or the direction of the text around it, and what is no character; not tab and line feed."""


def check_variables(declaration: Declaration, given: Mapping[str, object]) -> dict[str, object]:
    """Check and clean what a caller gives.

    Args:
        declaration: Of the template.
        given: Plain values: text, numbers, booleans, lists, mappings; None counts as not given.

    Returns:
        A value for each variable of the template; an optional one that is not given is empty, and false.

    Raises:
        UnusableVariablesError: Names every variable that is missing, wrong or not known.
    """
    check = _Check()
    values = {name: check.value(variable, given.get(name)) for name, variable in declaration.variables.items()}
    unknown = [name for name in given if name not in declaration.variables]
    for name in unknown[:_MAX_NAMED]:
        known = ", ".join(declaration.variables) or "none"
        check.problem(_shown(name), f"is no variable of this template, which has: {known}")
    if check.problems:
        raise UnusableVariablesError(check.problems)
    return values


def one_line(text: str) -> str:
    """Make a single line of a text: line breaks and other white space become one space."""
    return " ".join(text.split())


def _shown(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]", "?", name[:_SHOWN_CHARACTERS])
    return safe + ("..." if len(name) > _SHOWN_CHARACTERS else "")


class _Check:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[VariableProblem] = []

    def problem(self, name: str, description: str) -> None:
        self.problems.append(VariableProblem(name, description))

    def value(self, variable: Variable, given: object) -> object:
        if given is None:
            if not variable.optional:
                self.problem(variable.name, f"is missing ({variable.meaning})")
            return ""
        match variable.type:
            case VariableType.NUMBER:
                return self._number(variable.name, given)
            case VariableType.FLAG:
                if not isinstance(given, bool):
                    self.problem(variable.name, "must be true or false")
                return given
            case VariableType.URL:
                return self._url(variable, given)
            case VariableType.LIST:
                return self._list(variable, given)
        return self._text(variable.name, given, variable)

    def _text(self, name: str, given: object, variable: Variable) -> str:
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = str(self._number(name, given))
        if not isinstance(given, str):
            self.problem(name, "must be a text")
            return ""
        if len(given) > variable.most_characters:
            self.problem(name, f"is longer than {variable.most_characters} characters")
            return ""
        clean = _STEERING.sub("", given.replace("\r\n", "\n").replace("\r", "\n"))
        clean = clean.strip("\n") if variable.type is VariableType.PARAGRAPHS else one_line(clean)
        if not clean.strip() and not variable.optional:
            self.problem(name, "is empty")
        return clean

    def _number(self, name: str, given: object) -> int | float:
        if isinstance(given, bool) or not isinstance(given, int | float):
            self.problem(name, "must be a number")
            return 0
        if not math.isfinite(given) or abs(given) >= _EXACT:
            self.problem(name, "must be a number between -2^53 and 2^53")
            return 0
        return int(given) if given == int(given) else given

    def _url(self, variable: Variable, given: object) -> str:
        if not isinstance(given, str):
            self.problem(variable.name, "must be a URL, as text")
            return ""
        if not given and variable.optional:
            return ""
        objection = url_objection(given)
        if objection:
            self.problem(variable.name, objection)
        return given

    def _list(self, variable: Variable, given: object) -> Sequence[object]:
        if not isinstance(given, list):
            self.problem(variable.name, "must be a list")
            return []
        if len(given) > MAX_ENTRIES:
            self.problem(variable.name, f"holds more than {MAX_ENTRIES} entries")
            return []
        if not given and not variable.optional:
            self.problem(variable.name, "is empty")
        return [self._entry(f"{variable.name}[{index}]", each, variable) for index, each in enumerate(given)]

    def _entry(self, name: str, given: object, variable: Variable) -> object:
        if not variable.fields:
            return self._text(name, given, variable)
        if not isinstance(given, Mapping) or given.keys() != set(variable.fields):
            self.problem(name, f"must hold these fields: {', '.join(variable.fields)}")
            return {}
        return {field: self._text(f"{name}.{field}", given[field], variable) for field in variable.fields}
