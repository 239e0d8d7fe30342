"""S3 and what speaks like it: where requests go, with which credentials, and what the location is called."""

import os

from openegress.core.errors import invalid
from openegress.core.plan import Checksum, S3Storage
from openegress.request import object_headers
from openegress.storage.failures import FailureKind, asks_for_md5, refuses_checksums, region_named
from openegress.storage.http_link import HttpLink
from openegress.storage.s3_address import DEFAULT_REGION, address
from openegress.storage.s3_bucket import S3Bucket, S3Manner, S3Traits
from openegress.storage.s3_call import CredentialSource, KeptCredentials, NotDone, S3Caller
from openegress.storage.sigv4 import Credentials
from openegress.storage.traits import Retries, StoreTraits


def static(access_key: str, secret: str, session_token: str = "") -> CredentialSource:
    """Credentials that nothing in the environment changes and for which nobody is asked."""

    async def credentials() -> Credentials:
        return Credentials(access_key, secret, session_token)

    return credentials


def connect(backend: S3Storage) -> S3Bucket:
    if bool(backend.access_key) != bool(backend.secret):
        raise invalid("S3 access_key and secret go together; set both, or neither for the ambient identity")
    source = _source(backend)
    region, checksum = backend.region or DEFAULT_REGION, backend.checksum
    where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)
    links: list[HttpLink] = []

    def opened(region: str, checksum: Checksum) -> S3Manner:
        where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)
        links.append(link := HttpLink(where.endpoint, backend.proxy))
        return S3Manner(S3Caller(link, where, backend.bucket, region, source), checksum)

    def otherwise(error: NotDone) -> S3Manner | None:
        """In the region that S3 names, where none was configured; with the checksum that the store knows."""
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

    async def close() -> None:
        for link in links:
            await link.close()

    traits = S3Traits(
        StoreTraits(
            kind=FailureKind.S3,
            where=f"bucket {backend.bucket!r} at {where.endpoint}",
            location=lambda key: f"{where.location_base}/{key}",
            secrets=(backend.secret, backend.session_token, backend.proxy.password if backend.proxy else ""),
        ),
        _headers(backend),
        Retries(backend.max_retries, backend.min_retry_delay_s, backend.max_retry_delay_s),
    )
    manner = opened(region, checksum)
    return S3Bucket(manner, traits, close, otherwise)


def _source(backend: S3Storage) -> CredentialSource:
    if backend.assume_role_arn:
        from openegress.storage.assume_role import AssumedRole

        return KeptCredentials(AssumedRole(backend))
    if backend.access_key:
        return static(backend.access_key, backend.secret, backend.session_token)
    from openegress.storage.aws_identity import AmbientIdentity

    return KeptCredentials(AmbientIdentity(os.environ, backend.region or DEFAULT_REGION, backend.proxy))


def _headers(backend: S3Storage) -> dict[str, str]:
    """Of each object. Raises EgressError for what can be none."""
    found = {f"x-amz-meta-{name}": text for name, text in object_headers.metadata(backend.metadata).items()}
    found["content-disposition"] = object_headers.disposition(backend.content_disposition)
    if tags := object_headers.tags(backend.tagging):
        found["x-amz-tagging"] = object_headers.tagging_header(tags)
    if backend.server_side_encryption:
        found["x-amz-server-side-encryption"] = backend.server_side_encryption
    if backend.sse_kms_key_id:
        found["x-amz-server-side-encryption-aws-kms-key-id"] = backend.sse_kms_key_id
    if backend.storage_class:
        found["x-amz-storage-class"] = backend.storage_class
    return found
