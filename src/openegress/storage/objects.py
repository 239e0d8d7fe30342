"""Storage on an object store: one class over obstore's S3, GCS and Azure clients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import BaseError

from openegress.core.errors import Code, EgressError, Fault, Phase, internal, invalid
from openegress.core.plan import Proxy
from openegress.core.shown_url import receiver
from openegress.storage.failures import Answer, FailureKind, explain, read
from openegress.storage.spool import size_of

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    from openegress.storage.gateway import Gateway

    Store = S3Store | GCSStore | AzureStore

MIB = 1024 * 1024
PART_BYTES = 6 * MIB
PARTS_AT_ONCE = 3
"""With PART_BYTES: 18 MiB of a file on their way."""
PARTS_MAX = 9_000
"""S3 takes 10,000; parts grow when a file would need more."""
CHECK_BODY = b"openegress write check\n"
PANIC = "RustPanic"
"""What pyo3 makes of a bug in obstore; it has no public name."""
RAISED = (BaseError, OSError, ValueError)
"""What obstore raises: its own errors, FileNotFoundError for 404, ValueError for a path it refuses."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The same bucket twice: `upload` repeats a failed part and waits for slow ones; `probe` answers soon."""

    upload: "Store"
    probe: "Store"


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """How objects are written and named."""

    kind: FailureKind
    where: str
    """The bucket and its endpoint, for error texts."""
    location: Callable[[str], str]
    """Key to location."""
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    sign: Callable[[str, int], str] | None = None
    """(key, expires_s) to a presigned URL, where obstore's is not enough."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Of one call to a storage; the uploader has its own patience with a whole file."""

    most: int = 4
    min_delay_s: float = 0.1
    max_delay_s: float = 5.0


def retry_config(retries: Retries) -> "RetryConfig":
    return {
        "max_retries": retries.most,
        # obstore stops at this as well: what was asked for must fit in.
        "retry_timeout": timedelta(seconds=max(120.0, retries.most * retries.max_delay_s)),
        "backoff": {
            "init_backoff": timedelta(seconds=retries.min_delay_s),
            "max_backoff": timedelta(seconds=max(retries.min_delay_s, retries.max_delay_s)),
        },
    }


def stores(
    make: Callable[..., "Store"],
    proxy: Proxy | None = None,
    *,
    allow_http: bool = False,
    retries: Retries = Retries(),
) -> Stores:
    """`make` takes client_options and retry_config."""
    client: ClientConfig = {
        "user_agent": "openegress",
        "connect_timeout": timedelta(seconds=10),
        # A part of 6 MiB, three at a time, gets through at 63 kB/s.
        "timeout": timedelta(seconds=300),
        "allow_http": allow_http,
    }
    if proxy is not None:
        client["proxy_url"] = proxy_url(proxy)
    probing: ClientConfig = {
        **client,
        # Whoever started the egress waits for the check.
        "connect_timeout": timedelta(seconds=3),
        "timeout": timedelta(seconds=6),
    }
    quick: RetryConfig = {
        "max_retries": 1,
        "retry_timeout": timedelta(seconds=5),  # no second try after one that timed out
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1)},
    }
    try:
        return Stores(
            make(client_options=client, retry_config=retry_config(retries)),
            make(client_options=probing, retry_config=quick),
        )
    except RAISED as error:
        raise invalid(f"storage configuration: {str(error).split(chr(10))[0]}") from None


def proxy_url(proxy: Proxy) -> str:
    """With user and password in it, as the HTTP client wants them. Never logged."""
    url = proxy.url if "://" in proxy.url else f"http://{proxy.url}"
    if not urlsplit(url).hostname:
        raise invalid(f"proxy url {receiver(proxy.url)!r} names no host; write http://host:port")
    if not proxy.username:
        return url
    scheme, _, rest = url.partition("://")
    host = rest.rpartition("@")[2]
    return f"{scheme}://{quote(proxy.username, safe='')}:{quote(proxy.password, safe='')}@{host}"


def key_of(path: str) -> str:
    """An object's key: no empty part, nothing relative. Raises EgressError for ".."."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise invalid(f"storage path {path!r} names no object")
    return "/".join(parts)


def part_bytes(size_bytes: int) -> int:
    """PART_BYTES, or as many whole MiB as keep the number of parts within what storages take."""
    needed = -(-size_bytes // PARTS_MAX)
    return max(PART_BYTES, -(-needed // MIB) * MIB)


class Bucket:
    """The Storage for S3, GCS, Azure and AliOSS backends."""

    def __init__(
        self,
        opened: Stores,
        manner: StoreTraits,
        otherwise: Callable[[str], Stores | None] = lambda text: None,
    ) -> None:
        """`otherwise` opens the bucket in another way that the text of an error calls for; None: there is
        none."""
        self._stores = opened
        self._manner = manner
        self._otherwise = otherwise
        self.gateway: Gateway | None = None
        """The way to it, where a request names it; closed with this."""

    async def check(self, path: str) -> None:
        folder = key_of(path).rpartition("/")[0]
        # One name in a folder: an identity that may not delete leaves one small object, not one per egress.
        name = ".openegress-write-check"
        key = f"{folder}/{name}" if folder else name
        await self._try(
            Phase.STORAGE_CHECK,
            lambda: obstore.put_async(
                self._stores.probe,
                key,
                CHECK_BODY,
                attributes={**self._manner.attributes, "Content-Type": "text/plain"},
                tags=self._manner.tags or None,
            ),
        )
        try:
            await self._try(Phase.STORAGE_CHECK, lambda: obstore.delete_async(self._stores.probe, key))
        except EgressError as error:
            if error.fault is not Fault.CALLER:
                raise
            # May write but not delete: all that a recording needs.

    async def put(self, local: Path, path: str, content_type: str) -> None:
        size_bytes = await size_of(local)
        chunk_bytes = part_bytes(size_bytes)
        await self._try(
            Phase.STORAGE_WRITE,
            lambda: obstore.put_async(
                self._stores.upload,
                key_of(path),
                local,
                attributes={**self._manner.attributes, "Content-Type": content_type},
                tags=self._manner.tags or None,
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
        where = self._manner.where
        return EgressError(
            Code.NOT_FOUND,
            f"{key!r} is not in {where}",
            fault=Fault.DESTINATION,
            phase=Phase.STORAGE_WRITE,
        )

    async def _head(self, key: str) -> "ObjectMeta | None":
        """None: this identity may not look. Raises FileNotFoundError, EgressError."""
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
        if self._manner.sign is not None:
            return self._manner.sign(key, expires_s)
        expires_in = timedelta(seconds=expires_s)
        try:
            return str(await obstore.sign_async(self._stores.upload, "GET", key, expires_in))
        except RAISED as error:
            raise self._explained(str(error), Phase.STORAGE_WRITE, "presigning") from None

    def location(self, path: str) -> str:
        return self._manner.location(key_of(path))

    async def close(self) -> None:
        """Connections close with the client's last reference."""
        if self.gateway is not None:
            await self.gateway.close()

    async def _try(self, phase: Phase, call: Callable[[], Any]) -> Any:
        try:
            return await self._call(call)
        except RAISED as error:
            # "from None": obstore's text may quote signed addresses.
            raise self._explained(str(error), phase) from None

    async def _call(self, call: Callable[[], Any]) -> Any:
        """Again as long as an error tells how else to go about it."""
        while True:
            try:
                return await call()
            except RAISED as error:
                stores = self._otherwise(str(error))
                if stores is None:
                    raise
                self._stores = stores
            except Exception as error:
                if type(error).__name__ != PANIC:
                    raise
                raise internal(
                    f"the client of {self._manner.where} failed: {str(error)[:200]}", Phase.STORAGE_WRITE
                ) from None

    def _explained(self, text: str, phase: Phase, task: str = "upload") -> EgressError:
        manner, gateway = self._manner, self.gateway
        answer = read(text)
        if gateway is not None and gateway.is_denied:
            answer = Answer(403, "", gateway.problem)
        elif gateway is not None and gateway.problem:
            answer = Answer(407 if "407" in gateway.problem else 0, "", gateway.problem)
        return explain(
            answer, kind=manner.kind, where=manner.where, phase=phase, secrets=manner.secrets, task=task
        )
