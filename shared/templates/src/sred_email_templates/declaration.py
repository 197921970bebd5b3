"""What a template says of itself: the file ``ID.toml``."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sred_email_templates.errors import BrokenTemplatesError, SourceProblem

KINDS = (
    "WELCOME",
    "EMAIL_CONFIRMATION",
    "PASSWORD_RESET",
    "SUBSCRIPTION_CHANGED",
    "QUOTA_WARNING",
    "SYSTEM_NOTIFICATION",
)
RESERVED = frozenset({"product", "subject", "preheader", "because", "lang", "loop", "true", "false", "none"})
"""Names that the layout has."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LANG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_KEYS = frozenset({"kind", "about", "lang", "subject", "preheader", "because", "variables"})
_VARIABLE_KEYS = frozenset({"meaning", "example", "type", "optional", "most_characters", "fields"})


class VariableType(StrEnum):
    """What a variable holds."""

    TEXT = "text"
    PARAGRAPHS = "paragraphs"
    NUMBER = "number"
    URL = "url"
    FLAG = "flag"
    LIST = "list"


MOST_CHARACTERS = {VariableType.TEXT: 500, VariableType.PARAGRAPHS: 10_000}
"""Of a value, unless its declaration says otherwise."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template.

    Attributes:
        meaning: For those who write callers.
        example: A value that previews show.
        type: What it holds. ``text`` is one line; of ``paragraphs`` the line breaks stay.
        optional: Whether callers may leave it out; it is empty then.
        most_characters: Of its text.
        fields: Of each entry of a list; empty: entries are text or numbers.
    """

    name: str
    meaning: str
    example: object
    type: VariableType
    optional: bool
    most_characters: int
    fields: Sequence[str]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a template says of itself.

    Attributes:
        id: By which callers name it.
        kind: The only kind of email that it is for; None: any.
        about: One sentence for those who choose.
        lang: Of its texts, BCP 47.
        subject: Jinja.
        preheader: Jinja: what mail programs show beside the subject.
        because: Jinja: why the recipient gets it, for the footer.
        variables: By name, in the order of the file.
    """

    id: str
    kind: str | None
    about: str
    lang: str
    subject: str
    preheader: str
    because: str
    variables: Mapping[str, Variable]

    @property
    def examples(self) -> dict[str, object]:
        """An example of each variable."""
        return {name: variable.example for name, variable in self.variables.items()}


def read_declaration(template_id: str, file: Path) -> Declaration:
    """Read the declaration of a template.

    Raises:
        BrokenTemplatesError: Names everything that is wrong with it.
    """
    text = file.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        line = re.search(r"line (\d+)", str(e))
        raise BrokenTemplatesError([SourceProblem(file, int(line[1]) if line else None, str(e))]) from e
    reader = _Reader(file, text)
    declaration = reader.read(template_id, content)
    if reader.problems:
        raise BrokenTemplatesError(reader.problems)
    return declaration


def line_of(text: str, key: str) -> int | None:
    """Find the line of a TOML file that sets a key, or opens a table of this name."""
    found = re.search(rf"^\s*(?:{re.escape(key)}\s*=|\[\s*{re.escape(key)}\s*\])", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else None


class _Reader:
    """Reads one file, and collects what is wrong with it."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._text = text
        self.problems: list[SourceProblem] = []

    def read(self, template_id: str, content: Mapping[str, Any]) -> Declaration:
        for key in content.keys() - _KEYS:
            self._object(key, f"is not known: one of {', '.join(sorted(_KEYS))}")
        kind = content.get("kind")
        if kind is not None and kind not in KINDS:
            self._object("kind", f"must be one of {', '.join(KINDS)}; leave it out for any kind")
        lang = self._string(content, "lang", default="en")
        if not _LANG.fullmatch(lang):
            self._object("lang", "must be a language such as en or fr-CA")
        variables = content.get("variables", {})
        if not isinstance(variables, dict) or not all(isinstance(each, dict) for each in variables.values()):
            self._object("variables", "must be tables such as [variables.name]")
            variables = {}
        return Declaration(
            id=template_id,
            kind=kind,
            about=self._string(content, "about"),
            lang=lang,
            subject=self._string(content, "subject"),
            preheader=self._string(content, "preheader", default=""),
            because=self._string(content, "because", default=""),
            variables={name: self._variable(name, table) for name, table in variables.items()},
        )

    def _variable(self, name: str, table: Mapping[str, Any]) -> Variable:
        where = f"variables.{name}"
        if not _NAME.fullmatch(name) or name in RESERVED:
            self._object(where, "must be named by lower-case letters, digits and _, and not like what the layout has")
        for key in table.keys() - _VARIABLE_KEYS:
            self._object(where, f"{key} is not known: one of {', '.join(sorted(_VARIABLE_KEYS))}")
        try:
            kind = VariableType(table.get("type", "text"))
        except ValueError:
            self._object(where, f"type must be one of {', '.join(VariableType)}")
            kind = VariableType.TEXT
        fields = table.get("fields", [])
        if not isinstance(fields, list) or not all(isinstance(f, str) and _NAME.fullmatch(f) for f in fields):
            self._object(where, "fields must be a list of names")
            fields = []
        most = table.get("most_characters", MOST_CHARACTERS.get(kind, MOST_CHARACTERS[VariableType.TEXT]))
        if (
            not isinstance(most, int)
            or isinstance(most, bool)
            or not 1 <= most <= MOST_CHARACTERS[VariableType.PARAGRAPHS]
        ):
            self._object(where, f"most_characters must be 1 to {MOST_CHARACTERS[VariableType.PARAGRAPHS]}")
            most = 1
        if "example" not in table:
            self._object(where, "needs an example")
        if not isinstance(table.get("optional", False), bool):
            self._object(where, "optional must be true or false")
        return Variable(
            name=name,
            meaning=self._string(table, "meaning", where=where),
            example=table.get("example", ""),
            type=kind,
            optional=table.get("optional") is True,
            most_characters=most,
            fields=tuple(fields),
        )

    def _string(self, table: Mapping[str, Any], key: str, *, default: str | None = None, where: str = "") -> str:
        value = table.get(key, default)
        if isinstance(value, str) and (value.strip() or default is not None):
            return value
        self._object(where or key, f"{key} is needed: a text" if value is None else f"{key} must be a text")
        return ""

    def _object(self, key: str, reason: str) -> None:
        self.problems.append(SourceProblem(self._file, line_of(self._text, key), f"{key}: {reason}"))
