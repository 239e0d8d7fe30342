"""Opens buckets of Google Cloud Storage, with the credentials of the request or the ambient identity."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obstore.store import GCSStore

from openegress.core import foreign_json
from openegress.core.errors import EgressError, invalid
from openegress.core.storages import GCPStorage
from openegress.storage.failures import FailureKind
from openegress.storage.objects import Bucket, stores
from openegress.storage.traits import StoreTraits

ADC = "GOOGLE_APPLICATION_CREDENTIALS"


def service_account(credentials: str) -> dict[str, Any]:
    """Parses the credentials.json of a service account. Raises EgressError for anything else, whose text
    quotes nothing of it."""
    try:
        account = foreign_json.loads(credentials)
    except ValueError:
        raise invalid("GCP credentials are not JSON; give the content of credentials.json") from None
    if not isinstance(account, dict) or "private_key" not in account:
        kind = account.get("type") if isinstance(account, dict) else None
        raise _unusable("GCP credentials", kind)
    return account


def check_ambient(environ: Mapping[str, str]) -> None:
    """Raises EgressError if the ambient identity is of a kind that the client library does not support: its
    own error would say only that it cannot decode the file. Other errors are left to the library."""
    path = environ.get(ADC, "")
    try:
        account = foreign_json.loads(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        return
    if isinstance(account, dict) and account.get("type") not in ("service_account", "authorized_user"):
        raise _unusable(f"{ADC}={path}: credentials", account.get("type"))


def _unusable(what: str, kind: object) -> EgressError:
    if kind == "external_account":
        return invalid(
            f"{what} of type 'external_account' (workload identity federation) are not supported; give the "
            "key of a service account, or run where the metadata server gives an identity (GCE, GKE)"
        )
    return invalid(
        f"{what} of type {kind!r} cannot be used; give the key of a service account, or leave them empty for "
        f"the ambient identity ({ADC}, the metadata server of GCE and GKE)"
    )


def connect(backend: GCPStorage) -> Bucket:
    """Makes the client and sends nothing yet. Raises EgressError if there are no credentials that can be
    used."""
    if not backend.bucket:
        raise invalid("GCP bucket is empty; set `bucket`")
    account: dict[str, Any] = {}
    if backend.credentials:
        account = service_account(backend.credentials)
    else:
        check_ambient(os.environ)
    endpoint = str(account.get("gcs_base_url", "https://storage.googleapis.com"))

    def make(**options: Any) -> GCSStore:
        if backend.credentials:
            return GCSStore(backend.bucket, service_account_key=backend.credentials, **options)
        return GCSStore(backend.bucket, **options)

    traits = StoreTraits(
        kind=FailureKind.GCP,
        where=f"bucket {backend.bucket!r} at {endpoint}",
        location=lambda key: f"https://{backend.bucket}.storage.googleapis.com/{key}",
        secrets=(
            str(account.get("private_key", "")),
            str(account.get("private_key_id", "")),
            backend.proxy.password if backend.proxy else "",
        ),
    )
    return Bucket(stores(make, backend.proxy, allow_http=endpoint.startswith("http://")), traits)
