"""The settings for rooms whose media is encrypted end to end: keys, and services that provide keys."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from openegress.config.finding import Finding, Level
from openegress.core.block import Block
from openegress.core.errors import invalid
from openegress.core.key_service import material_of
from openegress.core.room_keys import KEY_RING, KeyDerivation
from openegress.core.shown_url import redact_endpoint
from openegress.core.values import Seconds, Secret

LONGEST_TIMEOUT_S = 6.0
"""Limit for a time-out: a recording waits ten seconds for a track that it needs."""


class RoomKeySettings(Block, frozen=True):
    """One key for matching rooms."""

    rooms: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    key: Secret = Secret("")
    key_file: str = ""
    key_env: str = ""
    derivation: KeyDerivation = KeyDerivation.PBKDF2
    index: int = 0

    @property
    def material(self) -> bytes:
        """The key material. Raises ValueError if it must be base64 and is not."""
        return material_of(self.key.reveal(), self.derivation)


class KeyServiceSettings(Block, frozen=True):
    """A service that provides keys for matching rooms."""

    rooms: tuple[str, ...] = ()
    url: str = ""
    api_key: str = ""
    timeout: Seconds = Seconds(3)


def filled(key: RoomKeySettings, environ: Mapping[str, str]) -> RoomKeySettings:
    """`key` with the secret from its file or variable. Raises EgressError."""
    if key.key_env and not key.key:
        return msgspec.structs.replace(key, key=Secret(environ.get(key.key_env, "")))
    if key.key_file and not key.key:
        try:
            text = Path(key.key_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise invalid(f"room_keys: {key.key_file} cannot be read: {reason}") from None
        return msgspec.structs.replace(key, key=Secret(text.rstrip("\r\n")))
    return key


def key_faults(keys: tuple[RoomKeySettings, ...]) -> Iterator[Finding]:
    for number, key in enumerate(keys):
        path = f"room_keys[{number}]"
        if not key.rooms:
            yield _error(f"{path}.rooms", "missing: list patterns of the rooms that have this key")
        if not key.key:
            place = f"the variable {key.key_env}" if key.key_env else key.key_file
            yield _error(path, f"{place} holds no key" if place else "needs key, key_file or key_env")
        if not 0 <= key.index < KEY_RING:
            yield _error(f"{path}.index", f"{key.index} is not an index: those are 0 to {KEY_RING - 1}")
        try:
            key.material  # noqa: B018 - it raises
        except ValueError:
            yield _error(f"{path}.key", "the text there (a secret, not shown) is not base64, as hkdf has it")


def service_faults(
    services: tuple[KeyServiceSettings, ...], api_keys: Mapping[str, Secret]
) -> Iterator[Finding]:
    for number, service in enumerate(services):
        path = f"key_services[{number}]"
        if not service.rooms:
            yield _error(f"{path}.rooms", "missing: list patterns of the rooms whose keys it has")
        if not service.url:
            yield _error(f"{path}.url", "missing")
        elif not _is_private(service.url):
            text = (
                f'"{redact_endpoint(service.url)}" would give keys to anybody who listens; write https://HOST'
            )
            yield _error(f"{path}.url", text)
        if service.api_key and service.api_key not in api_keys:
            yield _error(f"{path}.api_key", f'"{service.api_key}" is not a known API key')
        elif not api_keys:
            yield _error(f"{path}.api_key", "missing, requests are signed with a key's secret")
        if not 0 < service.timeout <= LONGEST_TIMEOUT_S:
            text = f"{service.timeout:g} s is not above 0 s and at most {LONGEST_TIMEOUT_S:g} s"
            yield _error(f"{path}.timeout", text)


def _is_private(url: str) -> bool:
    """Whether nobody on the way can read the answers: https, or this machine itself."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        is_here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_here = False
    return parts.scheme == "http" and is_here


def _error(path: str, text: str) -> Finding:
    return Finding(Level.ERROR, path, text)
