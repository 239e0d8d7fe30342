"""Implements Storage for S3 and compatible stores: uploads objects in one request or in parts."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from openegress.core.checksum import Checksum
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.tasks import cancelled
from openegress.storage import s3_checksum
from openegress.storage.failures import Answer, lacks
from openegress.storage.s3_client import CallTimeouts, S3Client, S3Failure, in_thread
from openegress.storage.spool import size_of, unreadable
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
)

if TYPE_CHECKING:
    from openegress.storage.gateway import Gateway

T = TypeVar("T")

TIMEOUTS = CallTimeouts(CONNECT_S, CALL_S)
PROBE_TIMEOUTS = CallTimeouts(PROBE_CONNECT_S, PROBE_S)
MAX_TRIES = 4
"""Limit for the tries of one call: the first, one in another region, one with another checksum, and one
without."""
PROBE_RETRIES = Retries(1, max_delay_s=1.0, at_least_s=5.0)
"""Retries of a check: one, but none after a time-out."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """How a bucket is accessed. An answer of the store may ask for another region or checksum."""

    client: S3Client
    checksum: Checksum


@dataclass(frozen=True, slots=True)
class S3Traits:
    """How the objects of a bucket are written."""

    store: StoreTraits
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of each object, by botocore's names: metadata, tags, encryption, class."""
    retries: Retries = field(default_factory=Retries)


class S3Bucket:
    """Implements Storage for S3 and AliOSS."""

    def __init__(
        self,
        access: S3Access,
        traits: S3Traits,
        adapt: Callable[[S3Failure], S3Access | None] = lambda error: None,
    ) -> None:
        """`adapt` returns the access that an answer asks for, or None if there is no other."""
        self._access = access
        self._traits = traits
        self._adapt = adapt
        self.gateway: Gateway | None = None
        """The gateway that carries the connections to a bucket that a request names. It is closed with this
        bucket."""

    async def check(self, path: str) -> None:
        key, phase = check_key(path), Phase.STORAGE_CHECK

        async def write(access: S3Access) -> None:
            await self._object(access, key, CHECK_BODY, "text/plain", PROBE_TIMEOUTS, PROBE_RETRIES)

        async def delete(access: S3Access) -> None:
            await access.client.ask("delete_object", PROBE_TIMEOUTS, PROBE_RETRIES, Key=key)

        await self._try(phase, write)
        try:
            await self._try(phase, delete)
        except EgressError as error:
            if error.fault is not Fault.CALLER:
                raise
            # The identity may write but not delete, which is all that a recording needs.

    async def put(self, local: Path, path: str, content_type: str) -> None:
        key = key_of(path)
        size_bytes = await size_of(local)

        async def send(access: S3Access) -> None:
            if size_bytes > part_bytes(size_bytes):
                await self._put_parts(access, local, key, size_bytes, content_type)
            else:
                body = await in_thread(lambda: _read(local), "read")
                await self._object(access, key, body, content_type, TIMEOUTS, self._traits.retries)

        await self._try(Phase.STORAGE_WRITE, send)

    async def size(self, path: str) -> int | None:
        key = key_of(path)
        try:
            answer = await self._head(key)
        except FileNotFoundError:
            raise self._no_such(key) from None
        return None if answer is None else int(self._header(answer, "ContentLength"))

    async def read(self, path: str, offset: int, size: int) -> bytes:
        key = key_of(path)
        places = f"bytes={offset}-{offset + size - 1}"

        async def get(access: S3Access) -> Mapping[str, Any]:
            return await access.client.ask(
                "get_object", TIMEOUTS, self._traits.retries, Key=key, Range=places
            )

        try:
            return bytes((await self._adapted(get))["Body"])
        except S3Failure as error:
            if error.answer.status == 404:
                raise self._no_such(key) from None
            raise self._failed(error.answer, Phase.STORAGE_READ, "reading") from None

    def _no_such(self, key: str) -> EgressError:
        return EgressError(
            Code.NOT_FOUND,
            f"{key!r} is not in {self._traits.store.where}",
            fault=Fault.DESTINATION,
            phase=Phase.STORAGE_WRITE,
        )

    async def changed_s(self, path: str) -> float | None:
        try:
            answer = await self._head(key_of(path))
        except FileNotFoundError:
            return None
        return None if answer is None else float(self._header(answer, "LastModified").timestamp())

    async def presign(self, path: str, expires_s: int) -> str:
        key = key_of(path)
        try:
            return await self._access.client.presign(key, expires_s)
        except S3Failure as error:
            raise self._failed(error.answer, Phase.STORAGE_WRITE, "presigning") from None

    def location(self, path: str) -> str:
        return self._traits.store.location(key_of(path))

    async def close(self) -> None:
        await self._access.client.close()
        if self.gateway is not None:
            await self.gateway.close()

    async def _head(self, key: str) -> Mapping[str, Any] | None:
        """The headers of an object; None if this identity may not look. Raises FileNotFoundError,
        EgressError."""
        try:
            return await self._adapted(
                lambda access: access.client.ask("head_object", TIMEOUTS, self._traits.retries, Key=key)
            )
        except S3Failure as error:
            if error.answer.status == 404:
                raise FileNotFoundError from None
            if error.answer.status in (401, 403) and not (self.gateway and self.gateway.is_denied):
                return None
            raise self._failed(error.answer, Phase.STORAGE_WRITE) from None

    def _header(self, answer: Mapping[str, Any], name: str) -> Any:
        """A header of an object, by botocore's name. Raises EgressError if the store left it out."""
        if name not in answer:
            raise self._failed(lacks(name), Phase.STORAGE_READ, "reading")
        return answer[name]

    async def _object(
        self,
        access: S3Access,
        key: str,
        body: bytes,
        content_type: str,
        timeouts: CallTimeouts,
        retries: Retries,
    ) -> None:
        sums = await in_thread(lambda: s3_checksum.of(body, access.checksum), "checksum")
        parameters = {**self._traits.parameters, **sums, "ContentType": content_type}
        await access.client.ask("put_object", timeouts, retries, Key=key, Body=body, **parameters)

    async def _put_parts(
        self, access: S3Access, local: Path, key: str, size_bytes: int, content_type: str
    ) -> None:
        client, retries = access.client, self._traits.retries
        parameters = {
            **self._traits.parameters,
            **s3_checksum.announced(access.checksum),
            "ContentType": content_type,
        }
        begun = await client.ask("create_multipart_upload", TIMEOUTS, retries, Key=key, **parameters)
        if not begun.get("UploadId"):
            raise S3Failure(lacks("UploadId"))
        upload = {"Key": key, "UploadId": str(begun["UploadId"])}
        try:
            parts = await self._parts_sent(access, local, size_bytes, upload)
            await client.ask(
                "complete_multipart_upload",
                TIMEOUTS,
                retries,
                MultipartUpload={"Parts": parts},
                **upload,
            )
        except (S3Failure, EgressError):
            # Stores keep the parts, and charge for them, until the upload is aborted.
            try:
                await client.ask("abort_multipart_upload", PROBE_TIMEOUTS, PROBE_RETRIES, **upload)
            except S3Failure:
                pass
            raise

    async def _parts_sent(
        self, access: S3Access, local: Path, size_bytes: int, upload: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Uploads all parts. Returns their descriptions for complete_multipart_upload, in order."""
        chunk_bytes = part_bytes(size_bytes)
        waiting = iter(range(-(-size_bytes // chunk_bytes)))
        done: dict[int, dict[str, Any]] = {}

        async def send_parts() -> None:
            # One buffer for all parts of this task: the allocator would keep what each thread allocates.
            buffer = bytearray(chunk_bytes)
            for index in waiting:
                read = functools.partial(_read_into, buffer, local, index * chunk_bytes)
                body = await in_thread(read, "read")
                sums = await in_thread(functools.partial(s3_checksum.of, body, access.checksum), "checksum")
                number = {"PartNumber": index + 1}
                answer = await access.client.ask(
                    "upload_part", TIMEOUTS, self._traits.retries, Body=body, **number, **sums, **upload
                )
                if not answer.get("ETag"):
                    raise S3Failure(Answer(0, "", "it gave no ETag to a part"))
                kept = s3_checksum.of_part(sums, access.checksum)
                done[index] = {**number, "ETag": answer["ETag"], **kept}

        sending = [asyncio.ensure_future(send_parts()) for _ in range(PARTS_AT_ONCE)]
        try:
            await asyncio.gather(*sending)
        finally:
            await cancelled(*sending)
        return [part for _, part in sorted(done.items())]

    async def _try(self, phase: Phase, call: Callable[[S3Access], Awaitable[T]]) -> T:
        try:
            return await self._adapted(call)
        except S3Failure as error:
            raise self._failed(error.answer, phase) from None

    async def _adapted(self, call: Callable[[S3Access], Awaitable[T]]) -> T:
        """The result of `call`, repeated with another access if an answer asks for one. Raises S3Failure."""
        for left in reversed(range(MAX_TRIES)):
            access = self._access
            try:
                return await call(access)
            except S3Failure as error:
                if access is not self._access:
                    continue
                other = self._adapt(error) if left else None
                if other is None:
                    raise
                self._access = other
                await access.client.close()
        raise S3Failure(Answer(0, "", "its answers differ from try to try"))

    def _failed(self, answer: Answer, phase: Phase, task: str = "upload") -> EgressError:
        return failure(answer, self._traits.store, self.gateway, phase, task)


def _read(local: Path) -> bytes:
    """Reads a file. Raises EgressError."""
    try:
        return local.read_bytes()
    except OSError as error:
        raise unreadable(local, error) from error


def _read_into(buffer: bytearray, local: Path, offset: int) -> bytes | bytearray:
    """Reads a file from `offset` on. Returns `buffer` if it is full, else the bytes up to the end. Raises
    EgressError."""
    try:
        with local.open("rb") as file:
            file.seek(offset)
            size_bytes = file.readinto(buffer)
    except OSError as error:
        raise unreadable(local, error) from error
    return buffer if size_bytes == len(buffer) else bytes(memoryview(buffer)[:size_bytes])
