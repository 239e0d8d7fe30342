"""Holds what cloud storages have in common: keys, parts, locations, proxies and error texts. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from openegress.core.errors import EgressError, Phase, invalid
from openegress.core.http_url import is_http
from openegress.core.shown_url import redact_endpoint
from openegress.core.storages import Proxy
from openegress.storage.failures import Answer, FailureKind, explain

MIB = 1024 * 1024
PART_BYTES = 6 * MIB
PARTS_AT_ONCE = 3
"""The number of parts of one file that are uploaded in parallel: 18 MiB in memory."""
PARTS_MAX = 9_000
"""Limit for the parts of a file. S3 takes 10,000; parts grow if a file would need more."""
CHECK_BODY = b"openegress write check\n"
CONNECT_S, CALL_S = 10.0, 300.0
"""Time-outs for connecting and for a call. Parts of 6 MiB, three at a time, get through at 63 kB/s."""
PROBE_CONNECT_S, PROBE_S = 3.0, 6.0
"""Time-outs of a check. They are short, as the caller of the start request waits for it."""


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """How objects of a bucket are written and named."""

    kind: FailureKind
    where: str
    """The bucket and its endpoint, for error texts."""
    location: Callable[[str], str]
    """Returns the location of a key."""
    secrets: tuple[str, ...] = ()
    sign: Callable[[str, int], str] | None = None
    """Makes a presigned URL from a key and its lifetime in seconds, if obstore's does not suffice."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often one call to a storage is repeated. The uploader additionally retries whole files for
    hours."""

    most: int = 4
    min_delay_s: float = 0.1
    max_delay_s: float = 5.0
    at_least_s: float = 120.0

    @property
    def within_s(self) -> float:
        """The time after which no attempt begins. It leaves time for all configured attempts."""
        return max(self.at_least_s, self.most * self.max_delay_s)


class GatewayState(Protocol):
    """What a gateway knows about the last connection that went through it (see Gateway)."""

    problem: str
    is_denied: bool


def failure(
    answer: Answer, traits: StoreTraits, gateway: GatewayState | None, phase: Phase, task: str = "upload"
) -> EgressError:
    """The error for `answer`. A problem of the gateway replaces the answer, as the client saw only a broken
    connection."""
    if gateway is not None and gateway.is_denied:
        answer = Answer(403, "", gateway.problem)
    elif gateway is not None and gateway.problem:
        answer = Answer(407 if "407" in gateway.problem else 0, "", gateway.problem)
    return explain(
        answer, kind=traits.kind, where=traits.where, phase=phase, secrets=traits.secrets, task=task
    )


def proxy_url(proxy: Proxy) -> str:
    """The proxy's URL with user and password in it, as HTTP clients expect it. Must not be logged. Raises
    EgressError if the URL has no host."""
    url = proxy.url if "://" in proxy.url else f"http://{proxy.url}"
    if not is_http(url):
        raise invalid(
            f"proxy url {redact_endpoint(proxy.url)!r} is not an HTTP proxy; write http://host:port"
        )
    if not proxy.username:
        return url
    scheme, _, rest = url.partition("://")
    host = rest.rpartition("@")[2]
    return f"{scheme}://{quote(proxy.username, safe='')}:{quote(proxy.password, safe='')}@{host}"


def key_of(path: str) -> str:
    """The key of an object, without empty and "." parts. Raises EgressError for ".." and for a missing
    name."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise invalid(f"storage path {path!r} names no object")
    return "/".join(parts)


def check_key(path: str) -> str:
    """The key of the object that Storage.check writes beside `path`. Each folder has one such name, so that
    an identity that may not delete leaves one small object and not one per egress."""
    folder, name = key_of(path).rpartition("/")[0], ".openegress-write-check"
    return f"{folder}/{name}" if folder else name


def part_bytes(size_bytes: int) -> int:
    """The size of a part: PART_BYTES, or more whole MiB for files that would need more than PARTS_MAX
    parts."""
    needed = -(-size_bytes // PARTS_MAX)
    return max(PART_BYTES, -(-needed // MIB) * MIB)
