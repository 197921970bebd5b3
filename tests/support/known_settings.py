"""Which variables the processes read, from their settings classes: what deployments set is held against it."""

import re
from pathlib import Path

from pydantic_settings import BaseSettings

from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.settings import PREFIX, MayBeInFile
from sred_email_ingress.settings import IngressSettings, MigrateSettings

_SETTINGS: dict[str, type[BaseSettings]] = {
    "ingress": IngressSettings,
    "consumer": ConsumerSettings,
    "migrate": MigrateSettings,
}


def variables_of(process: str) -> set[str]:
    """The variables that one process reads.

    Args:
        process: ingress, consumer, migrate or console.
    """
    if process == "console":
        return _of_the_console()
    found = set[str]()
    for name, field in _SETTINGS[process].model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"
        found.add(variable)
        if any(isinstance(mark, MayBeInFile) for mark in field.metadata):
            found.add(f"{variable}_FILE")
    return found


def _of_the_console() -> set[str]:
    """As docs/configuration.md names them."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (?:Command line|Console)\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    return {variable for section in sections for variable in re.findall(r"SRED_EMAIL_\w+", section)}
