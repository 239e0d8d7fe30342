"""S3 and what speaks like it: where requests go, with which credentials, and what the location is called."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from openegress.core.checksum import Checksum
from openegress.core.errors import invalid
from openegress.core.plan import S3Storage
from openegress.request import object_headers
from openegress.storage.failures import FailureKind, refuses_checksums, region_named
from openegress.storage.objects import Bucket, Retries, Stores, StoreTraits, stores
from openegress.storage.s3_address import DEFAULT_REGION, address

if TYPE_CHECKING:
    from obstore.store import S3Credential


def static(access_key: str, secret: str, session_token: str = "") -> "Callable[[], S3Credential]":
    """Credentials that nothing in the environment changes and for which nobody is asked."""

    def credential() -> "S3Credential":
        return {
            "access_key_id": access_key,
            "secret_access_key": secret,
            "token": session_token or None,
            "expires_at": None,
        }

    return credential


def connect(backend: S3Storage) -> Bucket:
    if bool(backend.access_key) != bool(backend.secret):
        raise invalid("S3 access_key and secret go together; set both, or neither for the ambient identity")
    provider: Any = None
    if backend.access_key:
        provider = static(backend.access_key, backend.secret, backend.session_token)
    if backend.assume_role_arn:
        from openegress.storage.assume_role import AssumedRole

        provider = AssumedRole(backend)

    def opened(region: str, checksum: Checksum) -> Stores:
        where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)
        config: dict[str, Any] = {}
        if checksum is not Checksum.NONE:
            config["checksum_algorithm"] = checksum.value
        if backend.server_side_encryption:
            config["server_side_encryption"] = backend.server_side_encryption
        if backend.sse_kms_key_id:
            config["sse_kms_key_id"] = backend.sse_kms_key_id

        def make(**options: Any) -> S3Store:
            return S3Store(
                backend.bucket,
                endpoint=where.endpoint,
                region=region,
                virtual_hosted_style_request=where.virtual_host,
                credential_provider=provider,
                skip_signature=False,
                # Compatible servers have the bulk form in dialects of their own, or not at all.
                disable_bulk_delete=True,
                **config,
                **options,
            )

        return stores(
            make,
            backend.proxy,
            allow_http=where.endpoint.startswith("http://"),
            retries=Retries(backend.max_retries, backend.min_retry_delay_s, backend.max_retry_delay_s),
        )

    where = address(backend.bucket, backend.endpoint, backend.region, backend.force_path_style)
    attributes = {
        **object_headers.metadata(backend.metadata),
        "Content-Disposition": object_headers.disposition(backend.content_disposition),
    }
    if backend.storage_class:
        attributes["Storage-Class"] = backend.storage_class
    manner = StoreTraits(
        kind=FailureKind.S3,
        where=f"bucket {backend.bucket!r} at {where.endpoint}",
        location=lambda key: f"{where.location_base}/{key}",
        attributes=attributes,
        tags=object_headers.tags(backend.tagging),
        secrets=(backend.secret, backend.session_token, backend.proxy.password if backend.proxy else ""),
    )
    region, checksum = backend.region or DEFAULT_REGION, backend.checksum

    def otherwise(text: str) -> Stores | None:
        """In the region that S3 names, where none was configured; without checksums, where it knows none."""
        nonlocal region, checksum
        named = region_named(text) if not backend.region else ""
        if named and named != region:
            region = named
        elif checksum is not Checksum.NONE and refuses_checksums(text):
            checksum = Checksum.NONE
        else:
            return None
        return opened(region, checksum)

    return Bucket(opened(region, checksum), manner, otherwise)
