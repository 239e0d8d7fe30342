"""Implements Storage for Google Cloud and Azure: one class over obstore's clients."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError

from openegress.core.errors import Code, EgressError, Fault, Phase, internal, invalid
from openegress.core.storages import Proxy
from openegress.storage.failures import read
from openegress.storage.spool import size_of
from openegress.storage.traits import (
    CALL_S,
    CHECK_BODY,
    CONNECT_S,
    PARTS_AT_ONCE,
    PROBE_CONNECT_S,
    PROBE_S,
    Retries,
    StoreTraits,
    check_key,
    failure,
    key_of,
    part_bytes,
    proxy_url,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig

    from openegress.storage.gateway import Gateway

    Store = GCSStore | AzureStore

PANIC = "RustPanic"
"""The exception that pyo3 raises for a panic in obstore; it has no public name."""
RAISED = (BaseError, OSError, ValueError)
"""Exceptions that obstore raises: its own errors, FileNotFoundError for 404, ValueError for a path it
refuses."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Two clients of the same bucket: `upload` retries failed parts and waits for slow ones; `probe` gives up
    soon."""

    upload: "Store"
    probe: "Store"


def stores(
    make: Callable[..., "Store"],
    proxy: Proxy | None = None,
    *,
    allow_http: bool = False,
) -> Stores:
    """Makes both clients; `make` takes client_options and retry_config."""
    client: ClientConfig = {
        "user_agent": "openegress",
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=CALL_S),
        "allow_http": allow_http,
    }
    if proxy is not None:
        client["proxy_url"] = proxy_url(proxy)
    probing: ClientConfig = {
        **client,
        "connect_timeout": timedelta(seconds=PROBE_CONNECT_S),
        "timeout": timedelta(seconds=PROBE_S),
    }
    retries = Retries()
    patient: RetryConfig = {
        "max_retries": retries.most,
        "retry_timeout": timedelta(seconds=retries.within_s),
        "backoff": {
            "init_backoff": timedelta(seconds=retries.min_delay_s),
            "max_backoff": timedelta(seconds=retries.max_delay_s),
        },
    }
    quick: RetryConfig = {
        "max_retries": 1,
        "retry_timeout": timedelta(seconds=5),  # no second try after one that timed out
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1)},
    }
    try:
        return Stores(
            make(client_options=client, retry_config=patient),
            make(client_options=probing, retry_config=quick),
        )
    except RAISED as error:
        raise invalid(f"storage configuration: {str(error).split(chr(10))[0]}") from None


class Bucket:
    """Implements Storage for GCS and Azure."""

    def __init__(
        self,
        opened: Stores,
        traits: StoreTraits,
    ) -> None:
        self._stores = opened
        self._traits = traits
        self.gateway: Gateway | None = None
        """The gateway that carries the connections to a bucket that a request names. It is closed with this
        bucket."""

    async def check(self, path: str) -> None:
        key = check_key(path)
        await self._try(
            Phase.STORAGE_CHECK,
            lambda: obstore.put_async(
                self._stores.probe,
                key,
                CHECK_BODY,
                attributes={"Content-Type": "text/plain"},
            ),
        )
        try:
            await self._try(Phase.STORAGE_CHECK, lambda: obstore.delete_async(self._stores.probe, key))
        except EgressError as error:
            if error.fault is not Fault.CALLER:
                raise
            # The identity may write but not delete, which is all that a recording needs.

    async def put(self, local: Path, path: str, content_type: str) -> None:
        size_bytes = await size_of(local)
        chunk_bytes = part_bytes(size_bytes)
        await self._try(
            Phase.STORAGE_WRITE,
            lambda: obstore.put_async(
                self._stores.upload,
                key_of(path),
                local,
                attributes={"Content-Type": content_type},
                use_multipart=size_bytes > chunk_bytes,
                chunk_size=chunk_bytes,
                max_concurrency=PARTS_AT_ONCE,
            ),
        )

    async def size(self, path: str) -> int | None:
        key = key_of(path)
        try:
            meta = await self._head(key)
        except FileNotFoundError:
            raise self._no_such(key) from None
        return None if meta is None else int(meta["size"])

    async def read(self, path: str, offset: int, size: int) -> bytes:
        key = key_of(path)
        try:
            data = await self._call(
                lambda: obstore.get_range_async(self._stores.upload, key, start=offset, length=size)
            )
        except FileNotFoundError:
            raise self._no_such(key) from None
        except RAISED as error:
            raise self._explained(str(error), Phase.STORAGE_READ, "reading") from None
        return bytes(data)

    async def changed_s(self, path: str) -> float | None:
        try:
            meta = await self._head(key_of(path))
        except FileNotFoundError:
            return None
        return None if meta is None else meta["last_modified"].timestamp()

    def _no_such(self, key: str) -> EgressError:
        where = self._traits.where
        return EgressError(
            Code.NOT_FOUND,
            f"{key!r} is not in {where}",
            fault=Fault.DESTINATION,
            phase=Phase.STORAGE_WRITE,
        )

    async def _head(self, key: str) -> "ObjectMeta | None":
        """The metadata of an object; None if this identity may not look. Raises FileNotFoundError,
        EgressError."""
        try:
            return await self._call(lambda: obstore.head_async(self._stores.upload, key))  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise
        except RAISED as error:
            if read(str(error)).status in (401, 403):
                return None
            raise self._explained(str(error), Phase.STORAGE_WRITE) from None

    async def presign(self, path: str, expires_s: int) -> str:
        key = key_of(path)
        if self._traits.sign is not None:
            return self._traits.sign(key, expires_s)
        expires_in = timedelta(seconds=expires_s)
        try:
            return str(await obstore.sign_async(self._stores.upload, "GET", key, expires_in))
        except RAISED as error:
            raise self._explained(str(error), Phase.STORAGE_WRITE, "presigning") from None

    def location(self, path: str) -> str:
        return self._traits.location(key_of(path))

    async def close(self) -> None:
        """Closes the gateway. obstore's connections close with the client's last reference."""
        if self.gateway is not None:
            await self.gateway.close()

    async def _try(self, phase: Phase, call: Callable[[], Any]) -> Any:
        try:
            return await self._call(call)
        except RAISED as error:
            # "from None": obstore's text may quote signed addresses.
            raise self._explained(str(error), phase) from None

    async def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except Exception as error:
            if type(error).__name__ != PANIC:
                raise
            raise internal(
                f"the client of {self._traits.where} failed: {str(error)[:200]}", Phase.STORAGE_WRITE
            ) from None

    def _explained(self, text: str, phase: Phase, task: str = "upload") -> EgressError:
        return failure(read(text), self._traits, self.gateway, phase, task)
