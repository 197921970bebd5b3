"""Files that a person names on the command line: what they hold, or in our own words why they cannot be read."""

import json
import sys
from pathlib import Path
from typing import Any

import typer


class UnreadableFileError(ValueError):
    """A file cannot be read; the message names it and says how to mend that."""


def read(path: Path) -> bytes:
    """Read a file.

    Raises:
        UnreadableFileError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableFileError(f"there is no file {path}: check its name, as seen from {Path.cwd()}") from error
    except IsADirectoryError as error:
        raise UnreadableFileError(f"{path} is a folder: name a file in it") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path} may not be read by this user: change its permissions") from error
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error


def text_of(path: str, option: str) -> str:
    """Read a text.

    Args:
        path: Of the file; ``-``: stdin.
        option: What named it.

    Raises:
        typer.BadParameter: It cannot be read, or is not UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else read(Path(path))
    except UnreadableFileError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    try:
        return content.decode("utf-8-sig")  # spreadsheets begin their CSV with a mark
    except UnicodeDecodeError as error:
        name = "what stdin holds" if path == "-" else path
        raise typer.BadParameter(f"{name} is not UTF-8: save it as UTF-8", param_hint=option) from error


def text_or_file(value: str, option: str) -> str:
    """Read a text that stands on the command line itself, or after ``@`` the name of its file; ``-``: stdin.

    Raises:
        typer.BadParameter: The file cannot be read, or is not UTF-8.
    """
    if value == "-" or value.startswith("@"):
        return text_of(value.removeprefix("@"), option)
    return value


def json_object(text: str, option: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f'is no JSON ({error}): write {{"name": "Ada"}}', param_hint=option) from error
    if not isinstance(value, dict):
        raise typer.BadParameter('must hold an object, such as {"name": "Ada"}', param_hint=option)
    return value
