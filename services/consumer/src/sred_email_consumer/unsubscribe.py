"""How people get rid of emails that they need not have: List-Unsubscribe and its one-click form.

What an email's headers become is part of serializer 2, and so never changes.

Source: https://www.rfc-editor.org/rfc/rfc8058 and https://www.rfc-editor.org/rfc/rfc2369#section-3.2
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote

KINDS = frozenset({"QUOTA_WARNING", "SYSTEM_NOTIFICATION"})
"""Kinds that nobody needs to get. The others answer something that their recipient did: a link that was asked for, a
contract that was changed."""

MAX_CHARACTERS = 500
_HOST = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
_URL = re.compile(
    rf"https://{_HOST}(?::[0-9]+)?(?:[/?][!#-;=?-~]*)?|mailto:[A-Za-z0-9.!$%&'*+/=^_{{|}}~-]+@{_HOST}(?:\?[!#-;=?-~]*)?",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = frozenset({"recipient", "email_id"})
_HEADERS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


def parse_unsubscribe(text: str) -> tuple[str, ...]:
    """Read ``https://example.com/u?e={email_id} mailto:u@example.com``: one of each, or either.

    Args:
        text: URLs with placeholders, separated by spaces or by commas with spaces.

    Returns:
        The URLs, the one for the web first.

    Raises:
        ValueError: They can't be used; the message says why.
    """
    urls = re.split(r",?\s+", text.strip().rstrip(","))
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"must not be longer than {MAX_CHARACTERS} characters")
    if not all(_URL.fullmatch(url) for url in urls):
        raise ValueError("must be an https:// URL, a mailto: address, or both separated by a space, in ASCII")
    urls.sort(key=_is_mailto)
    if [_is_mailto(url) for url in urls] not in ([False], [True], [False, True]):
        raise ValueError("must hold one https:// URL and one mailto: address at most")
    for url in urls:
        names = _PLACEHOLDER.findall(url)
        if _PLACEHOLDERS.issuperset(names) and not set("{}") & set(_PLACEHOLDER.sub("", url)):
            if not names and not _is_mailto(url):
                raise ValueError("the https:// URL needs {recipient} or {email_id}: one click must say whose it is")
            continue
        raise ValueError("knows the placeholders {recipient} and {email_id} only")
    return tuple(urls)


def serialize(urls: Iterable[str]) -> bytes:
    """As a send remembers them."""
    return " ".join(urls).encode()


def unsubscribe_headers(
    configured: bytes, *, kind: str, email_id: str, recipients: Sequence[str], own: Collection[str]
) -> Mapping[str, str]:
    """The headers that one email gets.

    Args:
        configured: What ``serialize`` made.
        kind: Name of its EmailKind.
        email_id: UUID as text.
        recipients: All of them, each an address or ``Name <address>``. A URL that names the recipient is left out where
            there are several: each of them would hold the link of one.
        own: Names of the headers that its caller has set: one of these wins.
    """
    if kind not in KINDS or not _HEADERS.isdisjoint(name.lower() for name in own):
        return {}
    urls = [url for url in configured.decode().split(" ") if len(recipients) == 1 or "{recipient}" not in url]
    if not urls:
        return {}
    address = recipients[0].rpartition("<")[2].removesuffix(">")
    values = {"{recipient}": quote(address, safe=""), "{email_id}": quote(email_id, safe="")}
    filled = [_PLACEHOLDER.sub(lambda found: values[found[0]], url) for url in urls]
    headers = {"List-Unsubscribe": ", ".join(f"<{url}>" for url in filled)}
    if not _is_mailto(urls[0]):
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def _is_mailto(url: str) -> bool:
    return url.lower().startswith("mailto:")
