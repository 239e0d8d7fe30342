"""Checks names in a request's storages. They become parts of host names and URLs: a "/", "#" or "@" in one
would send files, and the server's credentials, to another host. Pure."""

import re

from openegress.core.errors import invalid
from openegress.core.http_url import is_http
from openegress.core.shown_url import redact_endpoint, redact_identifier
from openegress.core.storages import AliOSSStorage, AzureStorage, GCPStorage, S3Storage
from openegress.core.text import shown

_BUCKET = re.compile(r"(?:[A-Za-z0-9_-]+:)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
"""The rules of S3 (today's and older), GCS and OSS for buckets; with Ceph, a tenant precedes the name."""
_REGION = re.compile(r"[A-Za-z0-9-]{0,64}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"\$?[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})")
_ENDPOINT = re.compile(r"(?:https?://)?[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?", re.IGNORECASE)
_AWS_S3 = re.compile(
    r"(?:https://)?(?:[a-z0-9.-]+\.)?s3(?:-[a-z0-9-]+)?(?:\.dualstack)?(?:\.[a-z0-9-]+)?(?:\.vpce)?"
    r"\.amazonaws\.com(?:\.cn)?/?",
    re.IGNORECASE,
)
"""Endpoints of S3 itself, as AWS names them; other hosts of amazonaws.com belong to its customers."""


def check_names(backend: S3Storage | GCPStorage | AzureStorage | AliOSSStorage) -> None:
    """Raises EgressError, which names the wrong field."""
    match backend:
        case S3Storage():
            _check("s3 bucket", backend.bucket, _BUCKET, "letters, digits, '.', '_' and '-'")
            _check("s3 region", backend.region, _REGION, "letters, digits and '-'")
            _check_endpoint("s3 endpoint", backend.endpoint)
        case AliOSSStorage():
            _check("aliOSS bucket", backend.bucket, _BUCKET, "letters, digits, '.', '_' and '-'")
            _check("aliOSS region", backend.region, _REGION, "letters, digits and '-'")
            _check_endpoint("aliOSS endpoint", backend.endpoint)
        case GCPStorage():
            _check("gcp bucket", backend.bucket, _BUCKET, "letters, digits, '.', '_' and '-'")
        case AzureStorage():
            if _ACCOUNT.fullmatch(backend.account_name) is None:
                # It may be a connection string, which has the key.
                name = shown(redact_identifier(backend.account_name))
                raise invalid(f"azure account_name {name} does not have 3 to 24 small letters and digits")
            _check("azure container_name", backend.container, _CONTAINER, "letters, digits and '-'")


def _check(field: str, value: str, pattern: re.Pattern[str], allowed: str) -> None:
    if pattern.fullmatch(value) is None:
        raise invalid(f'{field} "{shown(value, 80)}" is not valid: it is made of {allowed}')


def _check_endpoint(field: str, endpoint: str) -> None:
    whole = endpoint if "://" in endpoint else f"https://{endpoint}"
    if endpoint and not (_ENDPOINT.fullmatch(endpoint) and is_http(whole)):
        raise invalid(
            f'{field} "{shown(redact_endpoint(endpoint), 80)}" is not an address; write https://host or http://host:port'
        )


def is_aws(endpoint: str) -> bool:
    """Whether an endpoint (with or without a scheme) is S3 itself; an empty one is the region's."""
    return not endpoint or _AWS_S3.fullmatch(endpoint) is not None
