"""``sred-email-ingress`` serves; ``sred-email-ingress migrate`` brings the database to the newest schema."""

import argparse
import asyncio
import sys

import asyncpg
import structlog

from sred_email_core.email_send_log.migrate import SchemaIsBusyError, migrate
from sred_email_core.lifecycle import run_to_the_end
from sred_email_core.logs import configure_logs
from sred_email_core.settings import load_settings
from sred_email_ingress.app import run
from sred_email_ingress.contents import templates_of
from sred_email_ingress.expiry import short_lifetimes
from sred_email_ingress.settings import IngressSettings, MigrateSettings
from sred_email_templates import BrokenTemplatesError


def main() -> None:
    """Run the command; exit code 0 when it is done, 1 when it failed, 2 for wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="sred-email-ingress", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "migrate"],
        default="serve",
        help="serve (the default): accept emails. migrate: create or update the tables, safe to run at any time",
    )
    command = parser.parse_args().command
    sys.exit(_migrate() if command == "migrate" else _serve())


def _serve() -> int:
    settings = load_settings(IngressSettings)
    configure_logs(settings.log_level, settings.effective_log_format, service="ingress")
    log = structlog.get_logger(__name__)
    if settings.auth == "off":
        log.warning("auth_off", meaning="whoever reaches the gRPC port may send email")
    if short := short_lifetimes(settings.default_expiry):
        log.warning(
            "expiry_short", kinds=short, meaning="emails of these kinds are dropped after any outage as long as that"
        )
    try:
        templates_of(settings.product, settings.templates_dir)  # before anything is opened
    except BrokenTemplatesError as e:
        print(e, file=sys.stderr)  # noqa: T201 - as of settings: one line for each
        return 2
    try:
        run_to_the_end(run(settings))
    except OSError as e:
        log.error("ingress_failed", reason=str(e))  # noqa: TRY400 - the reason says it all
        return 1
    return 0


def _migrate() -> int:
    settings = load_settings(MigrateSettings)
    try:
        applied = asyncio.run(migrate(settings.postgres_dsn, say=_say))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, SchemaIsBusyError) as e:
        print(f"migrate: {e or type(e).__name__}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "the schema is the newest")  # noqa: T201 - the same
    return 0


def _say(what: str) -> None:
    print(f"migrate: {what}", file=sys.stderr)  # noqa: T201 - the same


if __name__ == "__main__":
    main()
