"""Opens buckets of S3 and compatible stores: endpoint, credentials, and form of the location."""

import re
from typing import Any

from openegress.core.checksum import Checksum
from openegress.core.errors import invalid
from openegress.core.storages import S3Storage
from openegress.core.text import shown
from openegress.request import object_headers
from openegress.storage.failures import FailureKind, asks_for_md5, refuses_checksums, region_named
from openegress.storage.s3_address import DEFAULT_REGION, address
from openegress.storage.s3_bucket import S3Access, S3Bucket, S3Traits
from openegress.storage.s3_client import Identity, S3Client, S3Failure, ambient
from openegress.storage.traits import Retries, StoreTraits

_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
"""The characters of a header's value (RFC 9110, 5.5)."""
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
_HEADER_FIELDS = ("access_key", "session_token", "server_side_encryption", "sse_kms_key_id", "storage_class")
"""Settings that are sent unchanged in headers."""


def static(access_key: str, secret: str, session_token: str = "") -> Identity:
    """An identity with these credentials, whatever the environment says."""
    return lambda session: session.set_credentials(access_key, secret, session_token or None)


def connect(backend: S3Storage) -> S3Bucket:
    """Makes the client and sends nothing yet. Raises EgressError if the backend's fields contradict each
    other."""
    if bool(backend.access_key) != bool(backend.secret):
        raise invalid("S3 access_key and secret go together; set both, or neither for the ambient identity")
    for name in _HEADER_FIELDS:
        if not _FIELD_VALUE.fullmatch(getattr(backend, name)):
            raise invalid(f"S3 {name} has a line break, or a character that is not ASCII")
    if backend.region and not _REGION.fullmatch(backend.region):
        raise invalid(
            f"S3 region {shown(backend.region)!r} is not the name of a region; write it as in us-east-1"
        )
    identity = _identity(backend)
    region, checksum = backend.region or DEFAULT_REGION, backend.checksum
    where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)

    def opened(region: str, checksum: Checksum) -> S3Access:
        where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)
        return S3Access(S3Client(where, backend.bucket, region, backend.proxy, identity), checksum)

    def adapt(error: S3Failure) -> S3Access | None:
        """The access with the region that S3 names, if none is configured, or with a checksum that the store
        supports."""
        nonlocal region, checksum
        named = "" if backend.region else region_named(error.answer, error.text)
        if named and named != region:
            region = named
        elif backend.checksum is Checksum.NONE:
            return None
        elif checksum is not Checksum.MD5 and asks_for_md5(error.answer, error.text):
            checksum = Checksum.MD5
        elif checksum is not Checksum.NONE and refuses_checksums(error.answer, error.text):
            checksum = Checksum.NONE
        else:
            return None
        return opened(region, checksum)

    traits = S3Traits(
        StoreTraits(
            kind=FailureKind.S3,
            where=f"bucket {backend.bucket!r} at {where.endpoint}",
            location=lambda key: f"{where.location_base}/{key}",
            secrets=(backend.secret, backend.session_token, backend.proxy.password if backend.proxy else ""),
        ),
        _parameters(backend),
        Retries(backend.max_retries, backend.min_retry_delay_s, backend.max_retry_delay_s),
    )
    return S3Bucket(opened(region, checksum), traits, adapt)


def _identity(backend: S3Storage) -> Identity:
    if backend.assume_role_arn:
        from openegress.storage.assume_role import AssumedRole

        return AssumedRole(backend).give
    if backend.access_key:
        return static(backend.access_key, backend.secret, backend.session_token)
    return ambient


def _parameters(backend: S3Storage) -> dict[str, Any]:
    """Parameters of each object, by botocore's names. Raises EgressError for invalid metadata or tags."""
    found: dict[str, Any] = {
        "Metadata": object_headers.metadata(backend.metadata),
        "ContentDisposition": object_headers.disposition(backend.content_disposition),
    }
    if tags := object_headers.tags(backend.tagging):
        found["Tagging"] = object_headers.tagging_header(tags)
    for name, value in (
        ("ServerSideEncryption", backend.server_side_encryption),
        ("SSEKMSKeyId", backend.sse_kms_key_id),
        ("StorageClass", backend.storage_class),
    ):
        if value:
            found[name] = value
    return found
