"""``sred-email-ingress`` serves; ``migrate`` makes the schema the newest one; ``keys`` counts which keys are needed."""

import argparse
import asyncio
import sys
from importlib.metadata import version

import asyncpg
import structlog

from sred_email_core.email_send_log.key_use import count_key_use
from sred_email_core.email_send_log.migrate import SchemaIsBusyError, migrate
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.lifecycle import run_to_the_end
from sred_email_core.logs import configure_logs
from sred_email_core.settings import load_settings
from sred_email_ingress.app import run
from sred_email_ingress.contents import templates_of
from sred_email_ingress.expiry import short_lifetimes
from sred_email_ingress.key_report import report
from sred_email_ingress.settings import IngressSettings, KeyReportSettings, MigrateSettings
from sred_email_templates import BrokenTemplatesError


def main() -> None:
    """Run the command; exit code 0 when it is done, 1 when it failed, 2 for wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="sred-email-ingress", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('sred-email-ingress')}")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "migrate", "keys"],
        default="serve",
        help="serve (the default): accept emails. migrate: create or update the tables, safe to run at any time. keys:"
        " tell how many emails need each encryption key; exit code 1 if one is not in the file",
    )
    commands = {"serve": _serve, "migrate": _migrate, "keys": _keys}
    sys.exit(commands[parser.parse_args().command]())


def _serve() -> int:
    settings = load_settings(IngressSettings)
    configure_logs(settings.log_level, settings.effective_log_format, service="ingress", traces=settings.traces_wanted)
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


def _keys() -> int:
    settings = load_settings(KeyReportSettings)
    try:
        use = asyncio.run(count_key_use(settings.postgres_dsn))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
        print(f"keys: {e or type(e).__name__}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    lines, complete = report(KeyRingFile(settings.encryption_keys_file).ring, use)
    print("\n".join(lines))  # noqa: T201 - the same
    return 0 if complete else 1


if __name__ == "__main__":
    main()
