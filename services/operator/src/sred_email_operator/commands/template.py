"""``sred-email template``: the templates on this machine, without any service."""

import json
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from sred_email_operator import output
from sred_email_operator.files import json_object, text_of
from sred_email_operator.options import AsJson, TemplatesDir, product_from_environment
from sred_email_templates import (
    BrokenTemplatesError,
    EmailTemplate,
    RenderedEmail,
    TemplateBook,
    UnknownTemplateError,
    UnusableVariablesError,
    load_templates,
)
from sred_email_templates.declaration import Declaration, Variable, VariableType

app = typer.Typer(
    help="Show the templates of emails. No service need run.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the template.")]
_Var = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="A variable; may be repeated. Lists are written as JSON."),
]
_Vars = Annotated[
    Path | None,
    typer.Option("--vars", metavar="FILE", help="Variables, as a JSON object."),
]
_Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", dir_okay=False, help="Where to write it.")]
_Open = Annotated[bool, typer.Option("--open", help="Open the html in the browser.")]
_AsText = Annotated[bool, typer.Option("--text", help="The plain text part instead of the html.")]


@app.command(name="list", epilog="\b\nExample:\n  sred-email template list")
def list_templates(*, templates_dir: TemplatesDir = None, as_json: AsJson = False) -> None:
    """List the templates, and what each wants to be told."""
    declarations = [template.declaration for template in _load(templates_dir).templates]
    if as_json:
        typer.echo(json.dumps({"templates": [_as_dict(each) for each in declarations]}, indent=2, default=str))
        return
    screen = output.console()
    for declaration in declarations:
        title = Text.assemble((declaration.id, "bold"), "  ", (declaration.kind or "any kind", "dim"))
        screen.print(title, soft_wrap=True)
        screen.print(Text(f"  {output.printable(declaration.about)}"), soft_wrap=True)
        width = max(map(len, declaration.variables), default=0) + 2
        for variable in declaration.variables.values():
            kind = f"{variable.type}, optional" if variable.optional else str(variable.type)
            line = f"    {variable.name.ljust(width)}{kind.ljust(22)}{output.printable(variable.meaning)}"
            screen.print(Text(line), soft_wrap=True)
        screen.print()


@app.command(
    epilog="\b\nExamples:\n  sred-email template preview password-reset --open\n"
    "  sred-email template preview welcome --var name=Ada --text"
)
def preview(  # noqa: PLR0913 - an argument for each option
    template_id: _Id,
    *,
    var: _Var = None,
    variables_file: _Vars = None,
    out: _Out = None,
    open_it: _Open = False,
    as_text: _AsText = False,
    templates_dir: TemplatesDir = None,
    as_json: AsJson = False,
) -> None:
    """Render a template as recipients would get it. What is not given is taken from its examples.

    Prints the html, unless another part, a file or the browser is asked for.
    """
    if open_it and (as_text or as_json or out):
        raise typer.BadParameter("goes with none of --text, --json and --out", param_hint="--open")
    if as_text and as_json:
        raise typer.BadParameter("goes without --json, which holds every part", param_hint="--text")
    try:
        template = _load(templates_dir).get(template_id)
    except UnknownTemplateError as error:
        raise typer.BadParameter(str(error), param_hint="ID") from error
    email = _render(template, _from_file(variables_file) | _from_options(template.declaration, var or []))
    if open_it:
        _open_in_browser(template_id, email.html)
    else:
        _write(_part(email, as_text=as_text, as_json=as_json), out)


def _load(folder: Path | None) -> TemplateBook:
    try:
        return load_templates(product_from_environment(), folder)
    except BrokenTemplatesError as error:
        _fail("a template is broken", *(str(problem) for problem in error.problems), cause=error)


def _render(template: EmailTemplate, given: dict[str, object]) -> RenderedEmail:
    try:
        return template.render(template.declaration.examples | given)
    except UnusableVariablesError as error:
        reasons = (f"{problem.name or 'the variables'} {problem.description}" for problem in error.problems)
        _fail(f"{template.declaration.id} can't be rendered", *reasons, cause=error)


def _part(email: RenderedEmail, *, as_text: bool, as_json: bool) -> str:
    if as_json:
        return json.dumps({"subject": email.subject, "html": email.html, "text": email.text}, indent=2) + "\n"
    return email.text if as_text else email.html + "\n"


def _write(content: str, out: Path | None) -> None:
    if out is None:
        typer.echo(content, nl=False)
        return
    try:
        out.write_text(content, encoding="utf-8")
    except OSError as error:
        _fail(f"{out} can't be written: {error.strerror}", cause=error)
    typer.echo(f"written: {out}", err=True)


def _open_in_browser(template_id: str, html: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix=f"sred-email-{template_id}-", suffix=".html", delete=False
    ) as file:
        file.write(html)
    typer.echo(f"written: {file.name}", err=True)
    if not webbrowser.open(Path(file.name).as_uri()):
        _fail("no browser can be opened here: open the file yourself")


def _from_file(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    return json_object(text_of(str(file), "--vars"), "--vars")


def _from_options(declaration: Declaration, words: list[str]) -> dict[str, object]:
    given: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise typer.BadParameter("NAME=VALUE is needed", param_hint="--var")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--var")
        given[name] = _typed(declaration.variables.get(name), name, text)
    return given


def _typed(variable: Variable | None, name: str, text: str) -> object:
    """What a text stands for: numbers, true and false, and lists are written as in JSON."""
    if variable is None or variable.type in {VariableType.TEXT, VariableType.PARAGRAPHS, VariableType.URL}:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name} is a {variable.type}: write it as JSON", param_hint="--var") from error


def _as_dict(declaration: Declaration) -> dict[str, object]:
    return {
        "id": declaration.id,
        "kind": declaration.kind,
        "about": declaration.about,
        "lang": declaration.lang,
        "variables": [
            {
                "name": variable.name,
                "type": variable.type.value,
                "optional": variable.optional,
                "meaning": variable.meaning,
                "fields": list(variable.fields),
                "most_characters": variable.most_characters,
                "example": variable.example,
            }
            for variable in declaration.variables.values()
        ],
    }


def _fail(reason: str, *details: str, cause: Exception | None = None) -> NoReturn:
    output.print_failure(reason, *details)
    raise typer.Exit(1) from cause
