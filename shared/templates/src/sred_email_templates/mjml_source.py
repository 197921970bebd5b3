"""MJML with Jinja in it, compiled to html with the same Jinja in it.

Compiled once, when the templates are loaded: what callers give never goes through the MJML compiler. The compiler takes
almost anything and silently leaves out what it does not know, so sources are checked here, and so is that no Jinja was
lost, doubled or moved on the way.
"""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from mjml import mjml2html

from sred_email_templates.declaration import Variable, VariableType
from sred_email_templates.errors import BrokenTemplatesError, SourceProblem

CONTENT = "[[content]]"
"""Where a layout has the template."""

_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_STAND_IN = re.compile(r"jinja-(\d+)-ends")
_PLAIN_NAME = re.compile(r"\{\{-?\s*([a-z][a-z0-9_.]*)\s*-?\}\}")
_ENCODED = re.compile(r"\|\s*urlencode\s*-?\}\}")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_PRODUCT_URLS = frozenset({"product.url", "product.logo_url"})
_PLAIN_TYPES = frozenset({VariableType.NUMBER, VariableType.FLAG})
_LINKS = frozenset({"href", "src", "background-url", "action", "background"})
_TAGS = frozenset(
    {
        *("mjml", "mj-head", "mj-body", "mj-title", "mj-preview", "mj-style", "mj-raw", "mj-breakpoint", "mj-font"),
        *("mj-attributes", "mj-all", "mj-class", "mj-wrapper", "mj-section", "mj-group", "mj-column", "mj-hero"),
        *("mj-text", "mj-button", "mj-table", "mj-image", "mj-divider", "mj-spacer", "mj-social", "mj-social-element"),
        *("mj-navbar", "mj-navbar-link", "mj-carousel", "mj-carousel-image"),
        *("mj-accordion", "mj-accordion-element", "mj-accordion-title", "mj-accordion-text"),
    }
)
_REFUSED_TAGS = frozenset({"script", "style", "iframe", "object", "embed", "form", "base"})
_OUTERMOST = frozenset({"mj-section", "mj-raw"})


def check_mjml(source: str, variables: Mapping[str, Variable], file: Path, *, layout: bool = False) -> None:
    """See that a source is MJML that the compiler will not quietly leave out, and that its links are safe.

    Args:
        source: Of a layout, or of a template: ``mj-section`` elements for the layout's content.
        variables: Those that it has.
        file: Where it stands, for the errors.
        layout: Whether it is a layout.

    Raises:
        BrokenTemplatesError: Names file and line of everything that is wrong.
    """
    jinja: list[str] = []
    hidden = _hide(source, jinja, keep_lines=True)
    scan = _Scan(jinja, variables, file, layout=layout)
    scan.feed(hidden)
    scan.close()
    scan.finish()
    if scan.problems:
        raise BrokenTemplatesError(scan.problems)


def compile_mjml(layout: str, content: str, file: Path) -> str:
    """Put a template into its layout, and make html of it.

    Args:
        layout: Checked.
        content: Checked.
        file: Of the content, for the errors.

    Returns:
        Html, with the Jinja of both where it was.

    Raises:
        BrokenTemplatesError: MJML can't be made of it, or has no place for some of the Jinja.
    """
    jinja: list[str] = []
    before, _, after = (_hide(part, jinja) for part in layout.partition(CONTENT))
    first = len(jinja)
    hidden = before + _hide(content, jinja) + after
    try:
        html = mjml2html(hidden, fonts={})  # nothing is loaded from elsewhere when an email is opened
    except ValueError as e:
        raise BrokenTemplatesError([SourceProblem(file, None, f"is no MJML: {e}")]) from e
    placed = [int(number) for number in _STAND_IN.findall(html)]
    expected = [int(number) for number in _STAND_IN.findall(hidden)]
    if [n for n in placed if jinja[n].startswith("{%")] != [n for n in expected if jinja[n].startswith("{%")]:
        reason = "{% … %} stands where MJML has no place for it: put it inside mj-raw, mj-text or mj-table"
        raise BrokenTemplatesError([SourceProblem(file, None, reason)])
    for number, found in enumerate(_JINJA.finditer(content), start=first):
        if found[0].startswith("{{") and number not in placed:  # a layout may have defaults that nothing uses
            line = content.count("\n", 0, found.start()) + 1
            raise BrokenTemplatesError([SourceProblem(file, line, f"MJML has no place for {found[0]}")])
    return _STAND_IN.sub(lambda found: jinja[int(found[1])], html)


def _hide(source: str, jinja: list[str], *, keep_lines: bool = False) -> str:
    """Put a word for each piece of Jinja, which may hold quotes and angle brackets."""

    def stand_in(found: re.Match[str]) -> str:
        jinja.append(found[0])
        return f"jinja-{len(jinja) - 1}-ends" + ("\n" * found[0].count("\n") if keep_lines else "")

    return _JINJA.sub(stand_in, source)


class _Scan(HTMLParser):
    """Walks through the elements of a source."""

    def __init__(self, jinja: list[str], variables: Mapping[str, Variable], file: Path, *, layout: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._jinja = jinja
        self._urls = {name for name, each in variables.items() if each.type is VariableType.URL} | _PRODUCT_URLS
        self._texts = {name for name, each in variables.items() if each.type not in _PLAIN_TYPES}
        self._file = file
        self._layout = layout
        self._open: list[tuple[str, int]] = []
        self.problems: list[SourceProblem] = []

    def object(self, reason: str, line: int | None = None) -> None:
        self.problems.append(SourceProblem(self._file, line or self.getpos()[0], reason))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if _is_mjml(tag):
            self._open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _is_mjml(tag):
            if tag not in _TAGS:
                self.object(f"<{tag}> is no element of MJML")
            elif not self._open and not self._layout and tag not in _OUTERMOST:
                self.object(f"<{tag}> must stand inside <mj-section>")
        if tag in _REFUSED_TAGS:
            self.object(f"<{tag}> has no place in an email")
        bare = _STAND_IN.findall(_QUOTED.sub("", self.get_starttag_text() or ""))
        if any(self._jinja[int(number)].startswith("{{") for number in bare):
            self.object("a value in an attribute stands in quotes")
        for name, value in attrs:
            self._check_attribute(name, value or "")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "mj-style":
            self._check_style([self._jinja[int(number)] for number in _STAND_IN.findall(data)])

    def handle_endtag(self, tag: str) -> None:
        if not _is_mjml(tag):
            return
        if not self._open or self._open[-1][0] != tag:
            opened = f", <{self._open[-1][0]}> of line {self._open[-1][1]} is" if self._open else ", nothing is"
            self.object(f"</{tag}> closes what is not open{opened}")
        else:
            self._open.pop()

    def finish(self) -> None:
        for tag, line in self._open:
            self.object(f"<{tag}> is never closed", line)

    def _check_attribute(self, name: str, value: str) -> None:
        pieces = [self._jinja[int(number)] for number in _STAND_IN.findall(value)]
        if not pieces:
            return
        if name.startswith("on") or name == "srcset":
            self.object(f"{name} may not hold variables")
        if name == "style":
            self._check_style(pieces)
        if name not in _LINKS:
            return
        rest = pieces
        if value.startswith("jinja-"):
            plain = _PLAIN_NAME.fullmatch(pieces[0])
            if not plain or plain[1] not in self._urls:
                self.object(
                    f"{name} must begin with a variable of type url alone, or with https://, http:// or mailto:"
                )
                return
            rest = pieces[1:]
        elif not value.startswith(("https://", "http://", "mailto:")):
            self.object(f"{name} must begin with a variable of type url, https://, http:// or mailto:")
        if not all(_ENCODED.search(piece) for piece in rest):
            self.object("what is put into a URL needs | urlencode: {{ name | urlencode }}")

    def _check_style(self, pieces: list[str]) -> None:
        """What is escaped for html can still say something in CSS."""
        for name in sorted(self._texts & {word for piece in pieces for word in _WORD.findall(piece)}):
            self.object(f"styles may hold numbers and flags only, not {name}")


def _is_mjml(tag: str) -> bool:
    return tag == "mjml" or tag.startswith("mj-")
