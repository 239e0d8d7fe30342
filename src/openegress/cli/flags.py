"""Flags that several commands share, and the settings they make."""

import argparse
import os
from typing import Any

from openegress.config.load import load
from openegress.config.settings import Settings
from openegress.core.errors import invalid
from openegress.core.values import Secret


def add_config(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config", metavar="FILE", help="YAML, livekit/egress's included (EGRESS_CONFIG_FILE)"
    )
    group.add_argument("--config-body", metavar="YAML", help="the same as text (EGRESS_CONFIG_BODY)")


def add_livekit(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("LiveKit server")
    group.add_argument("--livekit-url", metavar="URL", help="ws:// or wss:// (LIVEKIT_URL)")
    add_key(group)


def add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", help="address of the Egress API (OPENEGRESS_URL, http://127.0.0.1:7980)")
    add_key(group)


def add_key(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--api-key", metavar="KEY", help="name of the API key (LIVEKIT_API_KEY)")
    group.add_argument("--api-secret", metavar="SECRET", help="its secret (LIVEKIT_API_SECRET)")


def add_egress(command: argparse.ArgumentParser, *, many: bool = False) -> None:
    """Adds `id`, the egress that a command is about (`many`: a list of them), as ID or, as in lk, as --id."""
    either = command.add_mutually_exclusive_group(required=True)
    # Both write to `id`. The default of one must not replace what the other has written.
    if many:
        either.add_argument(
            "id",
            metavar="ID",
            nargs="*",
            default=argparse.SUPPRESS,
            help="of an egress; several may be given",
        )
        either.add_argument(
            "--id", action="append", default=argparse.SUPPRESS, help="the same, as in lk; may be repeated"
        )
    else:
        either.add_argument("id", metavar="ID", nargs="?", default=argparse.SUPPRESS, help="of the egress")
        either.add_argument("--id", default=argparse.SUPPRESS, help="the same, as in lk")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print JSON, for programs: {what}")


def add_listen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on (default 7980)")


def add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="for records and recordings in progress")
    parser.add_argument("--output-root", metavar="DIR", help="for recordings without another storage")


def settings_of(arguments: argparse.Namespace) -> tuple[Settings, tuple[str, ...]]:
    """The settings and their warnings. Raises EgressError."""
    secret = getattr(arguments, "api_secret", None)
    given: dict[str, Any] = {
        "ws_url": getattr(arguments, "livekit_url", None),
        "api_key": getattr(arguments, "api_key", None),
        "api_secret": Secret(secret) if secret else None,
        "host": getattr(arguments, "host", None),
        "port": getattr(arguments, "port", None),
        "data_dir": getattr(arguments, "data", None),
        "output_root": getattr(arguments, "output_root", None),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    loaded = load(arguments.config, arguments.config_body, given=changes)
    return loaded.settings, loaded.warnings


def key_of(arguments: argparse.Namespace) -> tuple[str, str]:
    """The API key and its secret, of a command that reads no configuration. Raises EgressError."""
    key = arguments.api_key or os.environ.get("LIVEKIT_API_KEY", "")
    secret = arguments.api_secret or os.environ.get("LIVEKIT_API_SECRET", "")
    if not key or not secret:
        raise invalid("no API key: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or --api-key and --api-secret")
    return key, secret


def require_livekit(settings: Settings) -> None:
    """Raises EgressError where no LiveKit server is configured."""
    if not (settings.api_key and settings.ws_url):
        raise invalid(
            "no LiveKit server: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or --livekit-url,"
            " --api-key and --api-secret"
        )
