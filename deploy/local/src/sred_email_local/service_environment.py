"""The environment that the two services and the console get. Pure."""

from pathlib import Path

from sred_email_local.ports import LOOPBACK
from sred_email_local.settings import LocalSettings

_SANDBOX_SENDER = "SREDSimplify <hello@sredsimplify.example>"
_RESEND_SENDER = "SREDSimplify <onboarding@resend.dev>"  # the only one that an account without a domain may use
# What would make the services other than this program expects, or send elsewhere.
_DROPPED = ("SRED_EMAIL_TLS_", "SRED_EMAIL_TOKEN", "RESEND_API_KEY")


def service_environment(
    settings: LocalSettings, postgres_dsn: str, redis_url: str, tokens_file: Path | None, api_key_file: Path
) -> dict[str, str]:
    """What ingress and consumer run with: the inherited environment, and over it what belongs to this machine.

    Args:
        settings: Of this run.
        postgres_dsn: Where PostgreSQL is.
        redis_url: Where Valkey is.
        tokens_file: Who may call; None: everybody.
        api_key_file: What the sandbox is shown.
    """
    ports = settings.ports
    inherited = {name: value for name, value in settings.environment.items() if not name.startswith(_DROPPED)}
    defaults = {
        "SRED_EMAIL_LOG_FORMAT": "console",
        "SRED_EMAIL_DRAIN_TIMEOUT": "3",
        "SRED_EMAIL_DEFAULT_FROM": _SANDBOX_SENDER if settings.uses_sandbox else _RESEND_SENDER,
        "SRED_EMAIL_PRODUCT_URL": "https://sredsimplify.example",
        "SRED_EMAIL_SUPPORT_ADDRESS": "help@sredsimplify.example",
    }
    ours = {
        "SRED_EMAIL_POSTGRES_DSN": postgres_dsn,
        "SRED_EMAIL_REDIS_URL": redis_url,
        "SRED_EMAIL_AUTH": "off" if tokens_file is None else "tokens",
        "SRED_EMAIL_INGRESS_GRPC_LISTEN": f"{LOOPBACK}:{ports.ingress_grpc}",
        "SRED_EMAIL_INGRESS_HTTP_LISTEN": f"{LOOPBACK}:{ports.ingress_http}",
        "SRED_EMAIL_CONSUMER_GRPC_LISTEN": f"{LOOPBACK}:{ports.consumer_grpc}",
        "SRED_EMAIL_CONSUMER_HTTP_LISTEN": f"{LOOPBACK}:{ports.consumer_http}",
    }
    if tokens_file is not None:
        ours["SRED_EMAIL_TOKENS_FILE"] = str(tokens_file)
    if settings.resend_api_key is not None:
        ours["RESEND_API_KEY"] = settings.resend_api_key
    else:
        ours["SRED_EMAIL_RESEND_BASE_URL"] = f"http://{LOOPBACK}:{ports.sandbox}"
        ours["RESEND_API_KEY_FILE"] = str(api_key_file)
    return {**defaults, **inherited, **ours}


def console_environment(settings: LocalSettings, token: str, console_token: str) -> dict[str, str]:
    """What the console runs with: the inherited environment, and over it what belongs to this machine.

    Args:
        settings: Of this run.
        token: What the services ask for; empty: nothing.
        console_token: What operators log in with.
    """
    ports, dropped = settings.ports, (*_DROPPED, "SRED_EMAIL_CONSOLE_")
    inherited = {name: value for name, value in settings.environment.items() if not name.startswith(dropped)}
    return {
        **inherited,
        "SRED_EMAIL_INGRESS_ADDRESS": f"{LOOPBACK}:{ports.ingress_grpc}",
        "SRED_EMAIL_CONSUMER_ADDRESS": f"{LOOPBACK}:{ports.consumer_grpc}",
        "SRED_EMAIL_CONSOLE_LISTEN": f"{LOOPBACK}:{ports.console}",
        "SRED_EMAIL_CONSOLE_TOKEN": console_token,
        **({"SRED_EMAIL_TOKEN": token} if token else {}),
    }
