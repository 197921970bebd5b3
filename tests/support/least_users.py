"""The users of Redis as docs/redis.md gives them to the services."""

from pathlib import Path

PASSWORD = "PASSWORD"
_DOCUMENT = Path(__file__).parents[2] / "docs" / "redis.md"


def users(prefix: str = "sred:email", *, cluster: bool = False) -> dict[str, list[str]]:
    """The rules of each, by name, for another prefix, and for a cluster."""
    lines = [line.split() for line in _DOCUMENT.read_text().splitlines() if line.startswith("user sred-email-")]
    more = ["+cluster|slots"] if cluster else []
    return {name: [rule.replace("~sred:email:*", f"~{prefix}:*") for rule in rules] + more for _, name, *rules in lines}


def url_of(url: str, name: str) -> str:
    """The same place, as this user."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{name}:{PASSWORD}@{rest}"
