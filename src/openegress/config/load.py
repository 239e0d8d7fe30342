"""Reads the configuration: file or text, then the environment, then the checks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from openegress.config.check import find_faults
from openegress.config.decode import read_yaml
from openegress.config.finding import Level
from openegress.config.room_keys import filled
from openegress.config.settings import CPUCost, Settings
from openegress.config.spellings import modernise
from openegress.config.storages import GCP, S3, Azure, StorageSettings
from openegress.core.decode import Decoder
from openegress.core.errors import EgressError, invalid
from openegress.core.values import Secret

S = TypeVar("S", bound=StorageSettings)

ZERO_IS_DEFAULT = ("io_create_timeout", "io_update_timeout", "io_selection_timeout")
COSTS = tuple(name for name in CPUCost.__struct_fields__ if getattr(CPUCost(), name) == 0)
"""Fields of cpu_cost whose default is 0. A negative value counts as 0."""


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    warnings: tuple[str, ...]
    """Warnings of one line each, for the log: unknown and renamed keys."""
    source: str
    """The source of the configuration, for messages."""


def load(
    file: str | None = None,
    body: str | None = None,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Loaded:
    """Loads the settings. `body` overrides `file`, and both override EGRESS_CONFIG_BODY and
    EGRESS_CONFIG_FILE. `given` holds settings by name, which override everything. A setting that is not given
    has its default. Raises EgressError, which names the source, the path of the key and its value, but never
    a secret."""
    environ = os.environ if environ is None else environ
    text, source = _text(file, body, environ)
    try:
        tree, warnings = modernise(read_yaml(text))
        decoder = Decoder(warnings)
        settings = msgspec.structs.replace(decoder.struct(tree, Settings), **(given or {}))
        settings = _with_defaults(from_environment(settings, environ), decoder.warnings)
    except EgressError as error:
        raise invalid(f"{source}: {error.message}") from None
    for fault in find_faults(settings):
        if fault.level is Level.ERROR:
            raise invalid(f"{source}: {fault.path}: {fault.text}")
    return Loaded(settings, tuple(decoder.warnings), source)


def _with_defaults(settings: Settings, warnings: list[str]) -> Settings:
    """Replaces values that upstream treats as its default."""
    default = Settings()
    changes: dict[str, Any] = {
        name: getattr(default, name) for name in ZERO_IS_DEFAULT if not getattr(settings, name)
    }
    changes["cpu_cost"] = _cpu_cost(settings.cpu_cost, warnings)
    return msgspec.structs.replace(settings, **changes)


def _cpu_cost(asked: CPUCost, warnings: list[str]) -> CPUCost:
    default = CPUCost()
    changes: dict[str, Any] = {}
    share, usual = asked.max_cpu_utilization, default.max_cpu_utilization
    if not 0 < share <= 1:
        warnings.append(f"cpu_cost.max_cpu_utilization: {share:g} is not in (0, 1], taken as {usual:g}")
        changes["max_cpu_utilization"] = usual
    for name in COSTS:
        if (value := getattr(asked, name)) < 0:
            # A negative cost would free resources with each egress, on a machine that has none.
            warnings.append(f"cpu_cost.{name}: {value:g} is below zero, taken as 0")
            changes[name] = getattr(default, name)
    return msgspec.structs.replace(asked, **changes)


def _text(file: str | None, body: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    if body:
        return body, "--config-body"
    if not file and (text := environ.get("EGRESS_CONFIG_BODY")):
        return text, "EGRESS_CONFIG_BODY"
    if path := file or environ.get("EGRESS_CONFIG_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8"), path
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise invalid(f"{path}: the configuration cannot be read: {reason}") from None
    return "", "default configuration"


def from_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Fills in settings from the environment that are not given."""
    keys = settings.keys or _keys(environ.get("LIVEKIT_KEYS", ""))
    api_key = settings.api_key or environ.get("LIVEKIT_API_KEY", "")
    return msgspec.structs.replace(
        settings,
        api_key=api_key,
        api_secret=settings.api_secret
        or Secret(environ.get("LIVEKIT_API_SECRET", ""))
        or keys.get(api_key, Secret("")),
        ws_url=settings.ws_url or environ.get("LIVEKIT_WS_URL", "") or environ.get("LIVEKIT_URL", ""),
        keys=keys,
        storage=_filled(settings.storage, environ),
        backup=_filled(settings.backup, environ),
        debug=_filled(settings.debug, environ),
        room_keys=tuple(filled(each, environ) for each in settings.room_keys),
    )


def _keys(text: str) -> dict[str, Secret]:
    """Reads livekit-server's LIVEKIT_KEYS: "key: secret", one or several, separated by lines or commas."""
    keys = {}
    for pair in text.replace(",", "\n").splitlines():
        key, colon, secret = pair.partition(":")
        if colon and key.strip() and secret.strip():
            keys[key.strip()] = Secret(secret.strip())
    return keys


def _filled(storage: S, environ: Mapping[str, str]) -> S:
    """Fills in the credentials of a storage that are not given."""
    return msgspec.structs.replace(
        storage,
        s3=storage.s3 and _s3(storage.s3, environ),
        azure=storage.azure and _azure(storage.azure, environ),
        gcp=storage.gcp and _gcp(storage.gcp, environ),
    )


def _s3(s3: S3, environ: Mapping[str, str]) -> S3:
    region = s3.region or environ.get("AWS_DEFAULT_REGION", "") or environ.get("AWS_REGION", "")
    s3 = msgspec.structs.replace(s3, region=region)
    if s3.access_key or s3.secret:
        return s3
    # The three belong together: a session token is valid only with the keys it was issued with.
    return msgspec.structs.replace(
        s3,
        access_key=environ.get("AWS_ACCESS_KEY_ID", ""),
        secret=Secret(environ.get("AWS_SECRET_ACCESS_KEY", "")),
        session_token=s3.session_token or Secret(environ.get("AWS_SESSION_TOKEN", "")),
    )


def _azure(azure: Azure, environ: Mapping[str, str]) -> Azure:
    return msgspec.structs.replace(
        azure,
        account_name=azure.account_name or environ.get("AZURE_STORAGE_ACCOUNT", ""),
        account_key=azure.account_key or Secret(environ.get("AZURE_STORAGE_KEY", "")),
    )


def _gcp(gcp: GCP, environ: Mapping[str, str]) -> GCP:
    path = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if gcp.credentials_json or not path:
        return gcp
    try:
        credentials = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise invalid(f"GOOGLE_APPLICATION_CREDENTIALS: {path} cannot be read: {error.strerror}") from None
    return msgspec.structs.replace(gcp, credentials_json=Secret(credentials))
