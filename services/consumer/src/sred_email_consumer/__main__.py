"""``sred-email-consumer`` delivers emails until it is asked to stop."""

import argparse
import sys
from importlib.metadata import version

import structlog

from sred_email_consumer.app import run
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.lifecycle import run_to_the_end
from sred_email_core.logs import configure_logs
from sred_email_core.settings import load_settings


def main() -> None:
    """Run until SIGTERM or SIGINT; exit code 0 then, 1 when it failed, 2 for wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="sred-email-consumer", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('sred-email-consumer')}")
    parser.parse_args()
    settings = load_settings(ConsumerSettings)
    configure_logs(settings.log_level, settings.effective_log_format, service="consumer", traces=settings.traces_wanted)
    log = structlog.get_logger(__name__)
    if settings.auth == "off":
        log.warning("auth_off", meaning="whoever reaches the gRPC port may operate the queue")
    if settings.redirect_all_to is not None:
        log.warning("redirect_on", meaning="every email goes to the redirect address, none to its recipients")
    try:
        run_to_the_end(run(settings))
    except OSError as e:
        log.error("consumer_failed", reason=str(e))  # noqa: TRY400 - the reason says it all
        sys.exit(1)


if __name__ == "__main__":
    main()
