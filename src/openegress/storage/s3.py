"""S3 and what speaks like it: where requests go, with which credentials, and what the location is called."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from obstore.store import S3Store

from openegress.core.errors import invalid
from openegress.core.plan import S3Storage
from openegress.storage.failures import Kind
from openegress.storage.objects import Bucket, Manner, Retries, Stores, stores
from openegress.storage.s3_address import DEFAULT_REGION, address

if TYPE_CHECKING:
    from obstore.store import S3Credential


def tags_of(tagging: str) -> dict[str, str]:
    """From the query string form of the API ("k=v&k2=v2"). Raises EgressError when it is none."""
    if not tagging:
        return {}
    try:
        return dict(parse_qsl(tagging, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise invalid(f"S3 tagging {tagging!r} is no query string; write key=value&key2=value2") from None


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

    def in_region(region: str) -> Stores:
        where = address(backend.bucket, backend.endpoint, region, backend.force_path_style)

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
                **options,
            )

        return stores(
            make,
            backend.proxy,
            allow_http=where.endpoint.startswith("http://"),
            retries=Retries(backend.max_retries, backend.min_retry_delay_s, backend.max_retry_delay_s),
        )

    where = address(backend.bucket, backend.endpoint, backend.region, backend.force_path_style)
    manner = Manner(
        kind=Kind.S3,
        where=f"bucket {backend.bucket!r} at {where.endpoint}",
        location=lambda key: f"{where.location_base}/{key}",
        attributes={**backend.metadata, "Content-Disposition": backend.content_disposition or "inline"},
        tags=tags_of(backend.tagging),
        secrets=(backend.secret, backend.session_token, backend.proxy.password if backend.proxy else ""),
    )
    opened = in_region(backend.region or DEFAULT_REGION)
    return Bucket(opened, manner, in_region=None if backend.region else in_region)
