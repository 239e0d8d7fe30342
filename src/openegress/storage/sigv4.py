"""Signature Version 4 of AWS, which S3 and what speaks like it ask for. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and sigv4-query-string-auth.html
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose signature. Never logged."""

    access_key: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires_s: float | None = None
    """Unix seconds; None: they do not."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a signature holds."""

    region: str
    service: str = "s3"

    def of_day(self, day: str) -> str:
        return f"{day}/{self.region}/{self.service}/aws4_request"


def quoted_path(path: str) -> str:
    """A path as S3 signs and takes it: each byte but unreserved ones and "/" percent-encoded, once."""
    return quote(path, safe="/-_.~")


def query_text(query: Mapping[str, str]) -> str:
    """In the order of the signature."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def authorized(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    payload_sha256: str,
    credentials: Credentials,
    scope: Scope,
    now_s: float,
) -> dict[str, str]:
    """The headers to send: `headers` (names in lower case, host among them), date, token and signature.
    `path` is percent-encoded, `payload_sha256` hexadecimal."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    signed = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": at}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    signature = _signature(
        at, _canonical(method, path, query, signed, payload_sha256), credentials.secret, scope
    )
    credential = f"{credentials.access_key}/{scope.of_day(at[:8])}"
    signed["authorization"] = (
        f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def presigned(
    path: str, host: str, expires_s: int, credentials: Credentials, scope: Scope, now_s: float
) -> str:
    """The query with which whoever has it may GET `path` (percent-encoded) at `host`."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope.of_day(at[:8])}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        query["X-Amz-Security-Token"] = credentials.session_token
    canonical = _canonical("GET", path, query, {"host": host}, UNSIGNED)
    return f"{query_text(query)}&X-Amz-Signature={_signature(at, canonical, credentials.secret, scope)}"


def _canonical(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], payload_sha256: str
) -> str:
    named = sorted(headers.items())
    fields = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in named)
    names = ";".join(name for name, _ in named)
    return "\n".join([method, path, query_text(query), fields, names, payload_sha256])


def _signature(at: str, canonical: str, secret: str, scope: Scope) -> str:
    day = at[:8]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([ALGORITHM, at, scope.of_day(day), digest])
    key = f"AWS4{secret}".encode()
    for part in (day, scope.region, scope.service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()
