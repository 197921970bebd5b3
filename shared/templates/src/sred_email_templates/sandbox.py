"""Jinja as templates may use it: no code, no files, no loop without a bound, and values never unescaped.

A template can show its variables, branch and loop over lists. It can't call anything but the filters below, so a value
has no way to become code; and each loop runs over a list of bounded length.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import LoopContext
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup, escape

from sred_email_templates.errors import BrokenTemplatesError, SourceProblem
from sred_email_templates.product import Product

_REFUSED: Mapping[type[nodes.Node], str] = MappingProxyType(
    {
        nodes.Include: "include",
        nodes.Import: "import",
        nodes.FromImport: "import",
        nodes.Extends: "extends",
        nodes.Block: "block",
        nodes.Macro: "macro",
        nodes.CallBlock: "call",
        nodes.Call: "a call: use a filter",
        nodes.ScopedEvalContextModifier: "autoescape",
        nodes.EvalContextModifier: "autoescape",
        nodes.Pow: "**",
    }
)
_SUSPECT: tuple[type[nodes.Node], ...] = (*_REFUSED, nodes.For)
_FILTERS = frozenset(
    {
        *("abs", "float", "int", "max", "min", "round"),
        *("e", "escape", "lower", "replace", "trim", "truncate", "upper", "urlencode"),
        *("default", "first", "join", "last", "length"),
    }
)


def _breaks(text: str) -> Markup:
    """Show line breaks in html."""
    return Markup("<br>\n").join(escape(text).split("\n"))


def _grouped(number: float) -> str:
    """Show thousands: 12,500."""
    return f"{number:,}"


_OWN_FILTERS: Mapping[str, Callable[..., object]] = {"breaks": _breaks, "grouped": _grouped}


class _Sandbox(SandboxedEnvironment):
    """Lets templates look at what they were given, and at nothing behind it."""

    intercepted_binops = frozenset({"*", "%", "**"})

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:  # noqa: ARG002 - Jinja's signature
        return isinstance(obj, Product | LoopContext) and not attr.startswith("_")

    def is_safe_callable(self, obj: object) -> bool:  # noqa: ARG002 - Jinja's signature
        return False

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - Jinja's
        if not (isinstance(left, int | float) and isinstance(right, int | float)):  # a text times a million
            raise SecurityError(f"{operator} is for numbers only")
        return super().call_binop(context, operator, left, right)


def build_environment(*, html: bool, product: Product) -> SandboxedEnvironment:
    """Make the environment of html parts, or that of text parts and subjects, where nothing is escaped."""
    environment = _Sandbox(
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        cache_size=0,
    )
    environment.filters = {name: FILTERS[name] for name in _FILTERS} | dict(_OWN_FILTERS)
    environment.globals = {"product": product}
    return environment


def check_source(
    environment: SandboxedEnvironment, source: str, names: frozenset[str], file: Path, first_line: int = 1
) -> None:
    """See that a source uses only what templates may, and only names that it has.

    Args:
        environment: For which it is written.
        source: Jinja.
        names: Of the variables that it may use.
        file: Where it stands, for the error.
        first_line: On which it begins there.

    Raises:
        BrokenTemplatesError: It does not; file and line are named.
    """
    try:
        tree = environment.parse(source)
    except TemplateSyntaxError as e:
        raise BrokenTemplatesError([SourceProblem(file, first_line + e.lineno - 1, str(e.message))]) from e
    problems = [
        SourceProblem(file, first_line + node.lineno - 1, f"templates may not use {what}")
        for node in tree.find_all(_SUSPECT)
        if (what := "recursive loops" if isinstance(node, nodes.For) and node.recursive else _REFUSED.get(type(node)))
    ]
    problems += [
        SourceProblem(file, first_line + node.lineno - 1, f"{node.name} is no filter or test that templates have")
        for node in tree.find_all((nodes.Filter, nodes.Test))
        if node.name not in (environment.filters if isinstance(node, nodes.Filter) else environment.tests)
    ]
    if problems:
        raise BrokenTemplatesError(problems)
    lines = {node.name: node.lineno for node in reversed(list(tree.find_all(nodes.Name)))}
    problems += [
        SourceProblem(file, first_line + lines.get(name, 1) - 1, f"{name} is no variable that the template declares")
        for name in sorted(meta.find_undeclared_variables(tree) - names)
    ]
    if problems:
        raise BrokenTemplatesError(problems)
