"""Checks settings beyond the form of a single value, at start-up and in `config check`."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from openegress.config.finding import Finding, Level
from openegress.config.layouts import layout_faults
from openegress.config.overlay_faults import overlay_faults
from openegress.config.room_keys import key_faults, service_faults
from openegress.config.settings import NO_EFFECT, Settings
from openegress.config.storages import S3, StorageSettings
from openegress.core.errors import EgressError
from openegress.core.ipc import own_proxy
from openegress.core.networks import networks_of
from openegress.core.shown_url import redact_endpoint
from openegress.request import object_headers
from openegress.request.auto_start import rule_of

ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")

INSECURE = "certificates of pages and of the LiveKit server are not checked: others may pose as them"
"""The warning about the setting `insecure`."""
MIN_SECRET_CHARS = 32
"""Length below which an API secret gets a warning: livekit-server's own advice for HS256 keys."""

_WHY_NO_EFFECT = {
    "debug.enable_chrome_logging": "a page's console is logged anyway",
    "debug.enable_stream_logging": "set debug.enable_profiling for a report of each egress that fails",
    "debug.enable_track_logging": "the manifest and openegress_left_out_total count what tracks lost",
    "debug_handler_port": "handlers open no port; debug.enable_profiling keeps their stacks when they hang",
    "max_upload_queue": "segments that wait for upload are on the disk, which alone limits them",
    "video_encoder_threads": "the size and rate of the picture decide, and admission relies on that",
}
"""What to use instead of a setting without effect, or why nothing is missing."""


def check(settings: Settings, warnings: tuple[str, ...] = ()) -> list[Finding]:
    """All findings about a configuration; `warnings` are those of loading it."""
    from_loading = []
    for warning in warnings:
        path, _, text = warning.partition(": ")
        from_loading.append(Finding(Level.WARNING, path, text))
    return [*find_faults(settings), *from_loading, *_without_effect(settings)]


def find_faults(settings: Settings) -> Iterator[Finding]:
    yield from _ports(settings)
    yield from _urls(settings)
    yield from _keys(settings)
    yield from key_faults(settings.room_keys)
    yield from service_faults(settings.key_services, settings.all_keys)
    yield from _room_options(settings)
    yield from overlay_faults(settings)
    yield from layout_faults(settings)
    yield from _storage("storage", settings.storage)
    yield from _storage("backup", settings.backup)
    yield from _storage("debug", settings.debug)
    for name in ("page_load", "start_signal", "stop"):
        if not getattr(settings.timeouts, name):
            yield _error(f"timeouts.{name}", "0 leaves no time at all")
    for network in settings.deny_networks:
        try:
            networks_of([network])
        except ValueError as error:
            yield _error("deny_networks", f'"{network}" is not a network in CIDR form: {error}')
    proxy = own_proxy(settings.chrome_flags)
    if proxy and settings.deny_networks:
        text = "is not used: pages are reached through chrome_flags'"
        yield Finding(Level.WARNING, "deny_networks", f"{text} {proxy}, which has to deny them itself")
    if settings.insecure:
        yield Finding(Level.WARNING, "insecure", INSECURE)
    yield from _auto_start(settings)
    redis = settings.redis
    if redis.sentinel_addresses and not redis.sentinel_master_name:
        yield _error("redis.sentinel_master_name", "missing, sentinels need the name of their master")
    if redis.tls.server_name and not redis.tls.enabled:
        yield Finding(Level.WARNING, "redis.tls.server_name", "is not used without redis.tls.enabled")
    if settings.disallow_local_storage and settings.storage.local:
        yield _error("disallow_local_storage", "contradicts storage.local")


def _auto_start(settings: Settings) -> Iterator[Finding]:
    for number, block in enumerate(settings.auto_start):
        try:
            rule_of(block.rooms, block.egress)
        except EgressError as error:
            yield _error(f"auto_start[{number}]", error.message)
    if settings.auto_start and not settings.ws_url:
        yield _error("auto_start", "needs ws_url (LIVEKIT_URL): the server whose rooms are recorded")


def _ports(settings: Settings) -> Iterator[Finding]:
    taken: dict[int, str] = {}
    for name in ("port", "health_port", "prometheus_port", "template_port", "debug_handler_port"):
        port: int = getattr(settings, name)
        if not 0 <= port <= 65535:
            yield _error(name, f"{port} is not a port: ports are 0 to 65535")
        elif name == "template_port" and port == settings.port:
            continue  # a worker serves its pages there, a server on `port`: never both
        elif port and port in taken:
            yield _error(name, f"{port} is already {taken[port]}'s")
        elif port:
            taken[port] = name


def _urls(settings: Settings) -> Iterator[Finding]:
    wanted: list[tuple[str, str, tuple[str, ...]]] = [
        ("ws_url", settings.ws_url, ("ws", "wss", "http", "https"))
    ]
    wanted += [("template_base", settings.template_base, ("http", "https"))]
    wanted += [("webhook.urls", url, ("http", "https")) for url in settings.webhook.urls]
    for path, url, schemes in wanted:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            yield _error(path, f"is not a URL: {error}")
            continue
        if url and (parts.scheme not in schemes or not parts.hostname):
            forms = " or ".join(f"{scheme}://HOST" for scheme in schemes)
            yield _error(path, f'"{redact_endpoint(url)}" is not a URL with a host; write {forms}')


def _keys(settings: Settings) -> Iterator[Finding]:
    if settings.api_key and not settings.api_secret:
        yield _error("api_secret", f'missing for api_key "{settings.api_key}"')
    if settings.api_secret and not settings.api_key:
        yield _error("api_key", "missing, although api_secret is set")
    for key, secret in settings.all_keys.items():
        if not secret and key != settings.api_key:
            yield _error(f"keys.{key}", "has no secret")
        elif 0 < len(secret) < MIN_SECRET_CHARS and secret != "secret":
            yield Finding(
                Level.WARNING,
                f"keys.{key}",
                f"the secret is short; use at least {MIN_SECRET_CHARS} characters",
            )
    webhook = settings.webhook
    if webhook.api_key and webhook.api_key not in settings.all_keys:
        yield _error("webhook.api_key", f'"{webhook.api_key}" is not a known API key')
    if webhook.urls and not webhook.api_key and not settings.all_keys:
        yield _error("webhook.api_key", "missing, webhooks are signed with a key's secret")


def _storage(path: str, storage: StorageSettings) -> Iterator[Finding]:
    kinds = [kind for kind in ("s3", "azure", "gcp", "alioss", "local") if getattr(storage, kind)]
    if len(kinds) > 1:
        yield _error(path, f"{' and '.join(kinds)} are both set, files can only go to one of them")
    required = {
        "s3": "bucket",
        "azure": "container_name",
        "gcp": "bucket",
        "alioss": "bucket",
        "local": "storage_dir",
    }
    for kind in kinds:
        if not getattr(getattr(storage, kind), required[kind]):
            yield _error(f"{path}.{kind}.{required[kind]}", "missing")
    if storage.s3:
        yield from _s3(f"{path}.s3", storage.s3)


def _room_options(settings: Settings) -> Iterator[Finding]:
    for number, options in enumerate(settings.options.by_room):
        if not options.rooms:
            yield _error(f"options.by_room[{number}].rooms", "missing: list patterns of room names")


def _s3(path: str, s3: S3) -> Iterator[Finding]:
    try:
        object_headers.metadata(s3.metadata)
        object_headers.tags(s3.tagging)
        object_headers.disposition(s3.content_disposition)
    except EgressError as error:
        yield _error(path, error.message)
    if s3.server_side_encryption not in ("", *ENCRYPTIONS):
        text = f'"{s3.server_side_encryption}" is not one of {", ".join(ENCRYPTIONS)}'
        yield _error(f"{path}.server_side_encryption", text)
    if s3.sse_kms_key_id and not s3.server_side_encryption.startswith("aws:kms"):
        yield _error(f"{path}.sse_kms_key_id", "needs server_side_encryption: aws:kms or aws:kms:dsse")


def _without_effect(settings: Settings) -> Iterator[Finding]:
    default = Settings()
    for path in sorted(NO_EFFECT):
        value: object = settings
        unset: object = default
        for name in path.split("."):
            value, unset = getattr(value, name, None), getattr(unset, name, None)
        if isinstance(value, msgspec.Struct | dict | int | str | float) and value != (unset or type(value)()):
            why = _WHY_NO_EFFECT.get(path, "it is for a part of upstream's service")
            yield Finding(Level.WARNING, path, f"has no effect here: {why}")


def _error(path: str, text: str) -> Finding:
    return Finding(Level.ERROR, path, text)
