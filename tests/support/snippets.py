"""Runs the Python of a document as a reader would: block after block, in one session."""

import ast
import inspect
import re
from types import CodeType
from typing import Any

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def run_document(text: str, name: str, *, replace: dict[str, str]) -> dict[str, Any]:
    """Run every Python block of a page; ``await`` may stand at the top, as in ``python -m asyncio``.

    Args:
        text: Of the page, Markdown.
        name: Of the page, for tracebacks.
        replace: What a reader would put in the place of what, such as the address of the service.

    Returns:
        The names that the blocks left behind.
    """
    names: dict[str, Any] = {"__name__": "document"}
    blocks = list(_BLOCK.finditer(text))
    assert blocks, f"{name} has no Python"
    for block in blocks:
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]  # so that a traceback names the page's own lines
        for old, new in replace.items():
            source = source.replace(old, new)
        code: CodeType = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)  # noqa: S307 - our own documents
        if inspect.iscoroutine(result):
            await result
    return names
