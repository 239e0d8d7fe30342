"""What the storages of clouds have in common: keys, parts, locations, proxies, and words for what went wrong.
Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from openegress.core.errors import EgressError, Phase, invalid
from openegress.core.http_url import is_http
from openegress.core.plan import Proxy
from openegress.core.shown_url import receiver
from openegress.storage.failures import Answer, FailureKind, explain

MIB = 1024 * 1024
PART_BYTES = 6 * MIB
PARTS_AT_ONCE = 3
"""With PART_BYTES: 18 MiB of a file on their way."""
PARTS_MAX = 9_000
"""S3 takes 10,000; parts grow when a file would need more."""
CHECK_BODY = b"openegress write check\n"
CONNECT_S, CALL_S = 10.0, 300.0
"""A part of 6 MiB, three at a time, gets through at 63 kB/s."""
PROBE_CONNECT_S, PROBE_S = 3.0, 6.0
"""Whoever started the egress waits for the check."""


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """How objects are written and named."""

    kind: FailureKind
    where: str
    """The bucket and its endpoint, for error texts."""
    location: Callable[[str], str]
    """Key to location."""
    secrets: tuple[str, ...] = ()
    sign: Callable[[str, int], str] | None = None
    """(key, expires_s) to a presigned URL, where obstore's is not enough."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Of one call to a storage; the uploader has its own patience with a whole file."""

    most: int = 4
    min_delay_s: float = 0.1
    max_delay_s: float = 5.0
    at_least_s: float = 120.0

    @property
    def within_s(self) -> float:
        """No other attempt begins later. What was asked for fits in."""
        return max(self.at_least_s, self.most * self.max_delay_s)


class Way(Protocol):
    """What a gateway knows of the connections that went through it."""

    problem: str
    is_denied: bool


def failure(
    answer: Answer, traits: StoreTraits, way: Way | None, phase: Phase, task: str = "upload"
) -> EgressError:
    """In the words of the gateway, where it knows better."""
    if way is not None and way.is_denied:
        answer = Answer(403, "", way.problem)
    elif way is not None and way.problem:
        answer = Answer(407 if "407" in way.problem else 0, "", way.problem)
    return explain(
        answer, kind=traits.kind, where=traits.where, phase=phase, secrets=traits.secrets, task=task
    )


def proxy_url(proxy: Proxy) -> str:
    """With user and password in it, as the HTTP client wants them. Never logged."""
    url = proxy.url if "://" in proxy.url else f"http://{proxy.url}"
    if not is_http(url):
        raise invalid(f"proxy url {receiver(proxy.url)!r} is not an HTTP proxy; write http://host:port")
    if not proxy.username:
        return url
    scheme, _, rest = url.partition("://")
    host = rest.rpartition("@")[2]
    return f"{scheme}://{quote(proxy.username, safe='')}:{quote(proxy.password, safe='')}@{host}"


def key_of(path: str) -> str:
    """An object's key: no empty part, nothing relative. Raises EgressError for ".."."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise invalid(f"storage path {path!r} names no object")
    return "/".join(parts)


def check_key(path: str) -> str:
    """Of the object that is written to see whether `path` could be. One name in a folder: an identity that
    may not delete leaves one small object, not one per egress."""
    folder, name = key_of(path).rpartition("/")[0], ".openegress-write-check"
    return f"{folder}/{name}" if folder else name


def part_bytes(size_bytes: int) -> int:
    """PART_BYTES, or as many whole MiB as keep the number of parts within what storages take."""
    needed = -(-size_bytes // PARTS_MAX)
    return max(PART_BYTES, -(-needed // MIB) * MIB)
