"""Opens containers of Azure Blob: account key, SAS, or the ambient identity; sovereign clouds and emulators
by endpoint."""

import base64
import binascii
import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote, urlencode

from obstore.store import AzureStore

from openegress.core.errors import invalid
from openegress.core.storages import AzureStorage
from openegress.storage.failures import FailureKind
from openegress.storage.objects import Bucket, stores
from openegress.storage.s3_address import endpoint_url
from openegress.storage.traits import StoreTraits


def location_base(account: str, container: str, endpoint: str) -> str:
    """The beginning of locations, in the form of upstream, which leaves the container out. With an endpoint,
    which upstream does not support, a location is the blob's URL."""
    if not endpoint:
        return f"https://{account}.blob.core.windows.net"
    return f"{endpoint_url(endpoint)}/{container}"


SAS_VERSION = "2021-12-02"
CLOCK_SKEW_S = 900


def service_sas(account: str, key: str, container: str, blob: str, expires_s: int, now_s: float) -> str:
    """The query that lets anybody read one blob (service SAS, REST version 2020-12-06 and later).

    obstore signs the percent-encoded name, which Azure refuses for names with a space; this signs the plain
    one. https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    """
    start, expiry = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
        for at_s in (now_s - CLOCK_SKEW_S, now_s + expires_s)
    )
    fields = ["r", start, expiry, f"/blob/{account}/{container}/{blob}", "", "", "", SAS_VERSION, "b"]
    # After the resource: snapshot, encryption scope, and five headers of the answer, all unset.
    text = "\n".join([*fields, *[""] * 7])
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    query = {"sv": SAS_VERSION, "sr": "b", "sp": "r", "st": start, "se": expiry, "sig": signature}
    return urlencode(query)


def connect(backend: AzureStorage) -> Bucket:
    """Makes the client and sends nothing yet. Raises EgressError if the backend's fields do not suffice."""
    if not backend.container:
        raise invalid("Azure container is empty; set `container_name`")
    if not backend.account_name:
        raise invalid("Azure account is empty; set `account_name`")
    sas = backend.sas_token.removeprefix("?")
    try:
        base64.b64decode(backend.account_key, validate=True)
    except binascii.Error:
        raise invalid("Azure account_key is not base64; copy it whole from the portal") from None

    def credential() -> Any:
        if backend.account_key:
            return {"access_key": backend.account_key, "expires_at": None}
        return {"sas_token": sas, "expires_at": None}

    config: dict[str, Any] = {"account_name": backend.account_name}
    if backend.endpoint:
        config["endpoint"] = endpoint_url(backend.endpoint)
    if backend.account_key or sas:
        config["credential_provider"] = credential

    def make(**options: Any) -> AzureStore:
        return AzureStore(backend.container, **config, **options)

    def sign(key: str, expires_s: int) -> str:
        host = endpoint_url(backend.endpoint or f"https://{backend.account_name}.blob.core.windows.net")
        query = service_sas(
            backend.account_name, backend.account_key, backend.container, key, expires_s, time.time()
        )
        return f"{host}/{backend.container}/{quote(key)}?{query}"

    base = location_base(backend.account_name, backend.container, backend.endpoint)
    where = backend.endpoint or f"account {backend.account_name!r}"
    traits = StoreTraits(
        kind=FailureKind.AZURE,
        where=f"container {backend.container!r} at {where}",
        location=lambda key: f"{base}/{key}",
        secrets=(backend.account_key, sas),
        sign=sign if backend.account_key else None,
    )
    return Bucket(stores(make, backend.proxy, allow_http=backend.endpoint.startswith("http://")), traits)
