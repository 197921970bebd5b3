"""All templates: the built-in ones, and over them those of a folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

import jinja2

from sred_email_templates.declaration import RESERVED, Declaration, line_of, read_declaration
from sred_email_templates.errors import (
    BrokenTemplatesError,
    SourceProblem,
    UnknownTemplateError,
    UnusableVariablesError,
)
from sred_email_templates.mjml_source import CONTENT, check_mjml, compile_mjml
from sred_email_templates.product import Product
from sred_email_templates.sandbox import build_environment, check_source
from sred_email_templates.template import CompiledParts, EmailTemplate

_LAYOUT_MJML, _LAYOUT_TEXT = "layout.mjml", "layout.txt"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SUFFIXES = (".toml", ".mjml", ".txt")
_LAYOUT_NAMES = RESERVED - {"loop", "true", "false", "none"}
_LINES = ("subject", "preheader", "because")
MAX_FILE_BYTES = 256 * 1024
_T = TypeVar("_T")


class TemplateBook:
    """The templates by id."""

    def __init__(self, templates: Mapping[str, EmailTemplate]) -> None:
        self._templates = templates

    @property
    def templates(self) -> Sequence[EmailTemplate]:
        """All of them, in the order of their ids."""
        return [self._templates[template_id] for template_id in sorted(self._templates)]

    def get(self, template_id: str) -> EmailTemplate:
        """Find a template.

        Raises:
            UnknownTemplateError: There is none of this id.
        """
        try:
            return self._templates[template_id]
        except KeyError:
            raise UnknownTemplateError(sorted(self._templates)) from None


def load_templates(product: Product, folder: Path | None = None) -> TemplateBook:
    """Read, check and compile all templates, and try each with its examples.

    Args:
        product: From whom the emails come.
        folder: Of one's own templates; its files win over built-in ones of the same name. None: the built-in ones.

    Raises:
        BrokenTemplatesError: Names everything that is wrong, by file and line.
    """
    with as_file(files(__package__) / "builtin") as builtin:
        sources = {file.name: file for file in builtin.iterdir() if file.suffix in _SUFFIXES}
        if folder is not None:
            sources |= _own_files(folder)
        return _Loader(product, sources).load()


def _own_files(folder: Path) -> dict[str, Path]:
    try:
        own = {file.name: file for file in sorted(folder.iterdir()) if file.suffix in _SUFFIXES}
        problems = [
            SourceProblem(file, None, f"is larger than {MAX_FILE_BYTES} bytes")
            for file in own.values()
            if file.stat().st_size > MAX_FILE_BYTES
        ]
    except OSError as e:
        raise BrokenTemplatesError([SourceProblem(folder, None, f"can't be read: {e.strerror}")]) from e
    if problems:
        raise BrokenTemplatesError(problems)
    return own


class _Loader:
    """Compiles templates from their files, and collects what is wrong with them."""

    def __init__(self, product: Product, sources: Mapping[str, Path]) -> None:
        self._sources = sources
        self._html = build_environment(html=True, product=product)
        self._text = build_environment(html=False, product=product)

    def load(self) -> TemplateBook:
        layouts = self._layouts()
        problems: list[SourceProblem] = []
        templates: dict[str, EmailTemplate] = {}
        for template_id in sorted({Path(name).stem for name in self._sources} - {"layout"}):
            try:
                templates[template_id] = self._template(template_id, layouts)
            except BrokenTemplatesError as e:
                problems += e.problems
        if problems:
            raise BrokenTemplatesError(problems)
        return TemplateBook(templates)

    def _layouts(self) -> tuple[str, str]:
        mjml_file, text_file = self._sources[_LAYOUT_MJML], self._sources[_LAYOUT_TEXT]
        mjml, text = _read(mjml_file), _read(text_file)
        for file, source in ((mjml_file, mjml), (text_file, text)):
            if source.count(CONTENT) != 1:
                reason = f"must hold {CONTENT} once, where templates go"
                raise BrokenTemplatesError([SourceProblem(file, None, reason)])
        check_source(self._html, mjml, _LAYOUT_NAMES, mjml_file)
        check_mjml(mjml, {}, mjml_file, layout=True)
        check_source(self._text, text, _LAYOUT_NAMES, text_file)
        return mjml, text

    def _template(self, template_id: str, layouts: tuple[str, str]) -> EmailTemplate:
        declaration_file, mjml_file, text_file = (self._file(template_id, suffix) for suffix in _SUFFIXES)
        if not _ID.fullmatch(template_id):
            reason = "must be named by 1 to 64 lower-case letters, digits and -"
            raise BrokenTemplatesError([SourceProblem(declaration_file, None, reason)])
        declaration = _reading(declaration_file, lambda: read_declaration(template_id, declaration_file))
        lines = self._lines(declaration, declaration_file)
        content, text_content = _read(mjml_file), _read(text_file)
        names = frozenset(declaration.variables) | _LAYOUT_NAMES
        check_source(self._html, content, names, mjml_file)
        check_mjml(content, declaration.variables, mjml_file)
        check_source(self._text, text_content, names, text_file)
        html = self._html.from_string(compile_mjml(layouts[0], content, mjml_file))
        text = self._text.from_string(layouts[1].replace(CONTENT, text_content))
        template = EmailTemplate(declaration, CompiledParts(**lines, html=html, text=text))
        _try(template, mjml_file)
        return template

    def _lines(self, declaration: Declaration, file: Path) -> dict[str, jinja2.Template]:
        compiled = {}
        for name in _LINES:
            source = getattr(declaration, name)
            line = line_of(_read(file), name) or 1
            check_source(self._text, source, frozenset(declaration.variables) | {"product"}, file, line)
            compiled[name] = self._text.from_string(source)
        return compiled

    def _file(self, template_id: str, suffix: str) -> Path:
        file = self._sources.get(template_id + suffix)
        if file is None:
            there = next(self._sources[template_id + s] for s in _SUFFIXES if template_id + s in self._sources)
            raise BrokenTemplatesError([SourceProblem(there, None, f"has no {template_id}{suffix} beside it")])
        return file


def _read(file: Path) -> str:
    return _reading(file, lambda: file.read_text(encoding="utf-8"))


def _reading(file: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except UnicodeDecodeError as e:
        raise BrokenTemplatesError([SourceProblem(file, None, "is not UTF-8")]) from e
    except OSError as e:
        raise BrokenTemplatesError([SourceProblem(file, None, f"can't be read: {e.strerror}")]) from e


def _try(template: EmailTemplate, file: Path) -> None:
    """See that the examples fit, and that the template does without what is optional."""
    declaration = template.declaration
    needed = {name: v.example for name, v in declaration.variables.items() if not v.optional}
    for what, given in (("its examples", declaration.examples), ("its required examples alone", needed)):
        try:
            template.render(given)
        except UnusableVariablesError as e:
            reason = f"can't be rendered with {what}: {e}{_cause(e)}"
            raise BrokenTemplatesError([SourceProblem(file, None, reason)]) from e


def _cause(error: UnusableVariablesError) -> str:
    return f": {error.__cause__}" if error.__cause__ else ""
