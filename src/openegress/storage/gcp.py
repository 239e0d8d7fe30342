"""Google Cloud Storage, with the credentials of the request or the ambient identity."""

import json
from typing import Any

from obstore.store import GCSStore

from openegress.core.errors import invalid
from openegress.core.plan import GCPStorage
from openegress.storage.failures import Kind
from openegress.storage.objects import Bucket, Manner, stores


def service_account(credentials: str) -> dict[str, Any]:
    """The credentials.json of a service account. Raises EgressError, without its content, for another."""
    try:
        account = json.loads(credentials)
    except ValueError:
        raise invalid("GCP credentials are no JSON; give the content of credentials.json") from None
    if not isinstance(account, dict) or "private_key" not in account:
        kind = account.get("type") if isinstance(account, dict) else None
        raise invalid(
            f"GCP credentials of type {kind!r} cannot be used; give the key of a service account, or leave "
            "them empty for the ambient identity (GOOGLE_APPLICATION_CREDENTIALS, workload identity)"
        )
    return account


def connect(backend: GCPStorage) -> Bucket:
    if not backend.bucket:
        raise invalid("GCP bucket is empty; set `bucket`")
    account = service_account(backend.credentials) if backend.credentials else {}
    endpoint = str(account.get("gcs_base_url", "https://storage.googleapis.com"))

    def make(**options: Any) -> GCSStore:
        if backend.credentials:
            return GCSStore(backend.bucket, service_account_key=backend.credentials, **options)
        return GCSStore(backend.bucket, **options)

    manner = Manner(
        kind=Kind.GCP,
        where=f"bucket {backend.bucket!r} at {endpoint}",
        location=lambda key: f"https://{backend.bucket}.storage.googleapis.com/{key}",
        secrets=(
            str(account.get("private_key", "")),
            str(account.get("private_key_id", "")),
            backend.proxy.password if backend.proxy else "",
        ),
    )
    return Bucket(stores(make, backend.proxy, allow_http=endpoint.startswith("http://")), manner)
