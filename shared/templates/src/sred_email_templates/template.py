"""One template, ready to render."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2

from sred_email_templates.declaration import Declaration
from sred_email_templates.errors import UnusableVariablesError, VariableProblem
from sred_email_templates.variables import check_variables, one_line

MAX_RENDERED_CHARACTERS = 256 * 1024
"""Of the html, and of the text. Mail programs cut off much earlier: Gmail at 102 kB."""
MAX_SUBJECT_CHARACTERS = 998
_MANY_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """What a template and its variables come to: a single line, and the two parts of the body."""

    subject: str
    html: str
    text: str


@dataclass(frozen=True, slots=True)
class CompiledParts:
    """The Jinja templates of one email; those of lines are not escaped."""

    subject: jinja2.Template
    preheader: jinja2.Template
    because: jinja2.Template
    html: jinja2.Template
    text: jinja2.Template


class EmailTemplate:
    """Renders one of the product's emails."""

    def __init__(self, declaration: Declaration, parts: CompiledParts) -> None:
        self.declaration = declaration
        self._parts = parts

    def render(self, given: Mapping[str, object]) -> RenderedEmail:
        """Render the email.

        Args:
            given: Plain values: text, numbers, booleans, lists, mappings; None counts as not given.

        Returns:
            The email. In its html every value is escaped; its subject is one line without control characters.

        Raises:
            UnusableVariablesError: Names every variable that is missing, wrong or not known.
        """
        values = check_variables(self.declaration, given)
        try:
            return self._render(values)
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError, AttributeError) as e:
            problem = VariableProblem("", f"do not fit the template ({type(e).__name__})")
            raise UnusableVariablesError([problem]) from e

    def _render(self, values: dict[str, object]) -> RenderedEmail:
        parts = self._parts
        subject = one_line(parts.subject.render(values))
        if not subject or len(subject) > MAX_SUBJECT_CHARACTERS:
            reason = (
                f"make the subject longer than {MAX_SUBJECT_CHARACTERS} characters" if subject else "leave no subject"
            )
            raise UnusableVariablesError([VariableProblem("", reason)])
        values |= {
            "lang": self.declaration.lang,
            "subject": subject,
            "preheader": one_line(parts.preheader.render(values)),
            "because": one_line(parts.because.render(values)),
        }
        text = _MANY_BLANK_LINES.sub("\n\n", _bounded(parts.text, values)).strip() + "\n"
        return RenderedEmail(subject, _bounded(parts.html, values), text)


def _bounded(template: jinja2.Template, values: Mapping[str, object]) -> str:
    pieces: list[str] = []
    left = MAX_RENDERED_CHARACTERS
    for piece in template.root_render_func(template.new_context(dict(values))):
        left -= len(piece)
        if left < 0:
            reason = f"make the email longer than {MAX_RENDERED_CHARACTERS} characters"
            raise UnusableVariablesError([VariableProblem("", reason)])
        pieces.append(piece)
    return "".join(pieces)
