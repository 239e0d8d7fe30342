"""The Storage of S3 and what speaks like it: objects in one request or in parts."""

import asyncio
import email.utils
import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from xml.sax.saxutils import escape, unescape

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.plan import Checksum
from openegress.storage import s3_checksum
from openegress.storage.failures import Answer
from openegress.storage.http_link import Body, CallTimeouts, HttpAnswer
from openegress.storage.s3_call import NotDone, S3Call, S3Caller
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

PATIENT = CallTimeouts(CONNECT_S, CALL_S)
QUICK = CallTimeouts(PROBE_CONNECT_S, PROBE_S)
ONCE_MORE = Retries(1, max_delay_s=1.0, at_least_s=5.0)
"""No second try after one that timed out."""
UPLOAD_ID = re.compile(r"<UploadId>([^<]{1,2048})</UploadId>")


@dataclass(frozen=True, slots=True)
class S3Manner:
    """How a bucket is spoken to; what a store answers may call for another."""

    caller: S3Caller
    checksum: Checksum


@dataclass(frozen=True, slots=True)
class S3Traits:
    """How its objects are written."""

    store: StoreTraits
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of each object: metadata, tags, encryption, class."""
    retries: Retries = field(default_factory=Retries)


class S3Bucket:
    """The Storage for S3 and AliOSS."""

    def __init__(
        self,
        manner: S3Manner,
        traits: S3Traits,
        close: Callable[[], Awaitable[None]],
        otherwise: Callable[[NotDone], S3Manner | None] = lambda error: None,
    ) -> None:
        """`otherwise`: the manner that an answer calls for; None: there is no
        other."""
        self._manner = manner
        self._traits = traits
        self._close = close
        self._otherwise = otherwise
        self.gateway: Gateway | None = None
        """The way to it, where a request names it; closed with this."""

    async def check(self, path: str) -> None:
        key, phase = check_key(path), Phase.STORAGE_CHECK

        async def write(manner: S3Manner) -> HttpAnswer:
            return await self._object(manner, key, CHECK_BODY, "text/plain", QUICK, ONCE_MORE)

        async def delete(manner: S3Manner) -> HttpAnswer:
            return await manner.caller.ask(S3Call("DELETE", key), QUICK, ONCE_MORE)

        await self._try(phase, write)
        try:
            await self._try(phase, delete)
        except EgressError as error:
            if error.fault is not Fault.CALLER:
                raise
            # May write but not delete: all that a recording needs.

    async def put(self, local: Path, path: str, content_type: str) -> None:
        key = key_of(path)
        size_bytes = await size_of(local)

        async def send(manner: S3Manner) -> None:
            if size_bytes > part_bytes(size_bytes):
                await self._put_parts(manner, local, key, size_bytes, content_type)
            else:
                body = await manner.caller.work(lambda: _whole(local, size_bytes))
                await self._object(manner, key, body, content_type, PATIENT, self._traits.retries)

        await self._try(Phase.STORAGE_WRITE, send)

    async def size(self, path: str) -> int | None:
        key = key_of(path)
        try:
            answer = await self._head(key)
        except FileNotFoundError:
            raise EgressError(
                Code.NOT_FOUND,
                f"{key!r} is not in {self._traits.store.where}",
                fault=Fault.DESTINATION,
                phase=Phase.STORAGE_WRITE,
            ) from None
        if answer is None:
            return None
        length = answer.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            raise self._failed(Answer(0, "", "it does not say how large the object is"), Phase.STORAGE_WRITE)
        return int(length)

    async def changed_s(self, path: str) -> float | None:
        try:
            answer = await self._head(key_of(path))
        except FileNotFoundError:
            return None
        if answer is None:
            return None
        try:
            return email.utils.parsedate_to_datetime(answer.headers.get("last-modified", "")).timestamp()
        except ValueError:
            words = "it does not say when the object was stored"
            raise self._failed(Answer(0, "", words), Phase.STORAGE_WRITE) from None

    async def presign(self, path: str, expires_s: int) -> str:
        key = key_of(path)
        try:
            return await self._manner.caller.presign(key, expires_s)
        except NotDone as error:
            raise self._failed(error.answer, Phase.STORAGE_WRITE, "presigning") from None

    def location(self, path: str) -> str:
        return self._traits.store.location(key_of(path))

    async def close(self) -> None:
        await self._close()
        if self.gateway is not None:
            await self.gateway.close()

    async def _head(self, key: str) -> HttpAnswer | None:
        """None: this identity may not look. Raises FileNotFoundError, EgressError."""
        try:
            return await self._adapted(
                lambda manner: manner.caller.ask(S3Call("HEAD", key), PATIENT, self._traits.retries)
            )
        except NotDone as error:
            if error.answer.status == 404:
                raise FileNotFoundError from None
            if error.answer.status in (401, 403) and not (self.gateway and self.gateway.is_denied):
                return None
            raise self._failed(error.answer, Phase.STORAGE_WRITE) from None

    async def _object(
        self,
        manner: S3Manner,
        key: str,
        body: Body,
        content_type: str,
        patience: CallTimeouts,
        retries: Retries,
    ) -> HttpAnswer:
        sums = await manner.caller.work(lambda: s3_checksum.of(body, manner.checksum))
        headers = {
            **self._traits.headers,
            **s3_checksum.headers(sums, manner.checksum),
            "content-type": content_type,
        }
        call = S3Call("PUT", key, headers=headers, body=body, body_sha256=sums.sha256)
        return await manner.caller.ask(call, patience, retries)

    async def _put_parts(
        self, manner: S3Manner, local: Path, key: str, size_bytes: int, content_type: str
    ) -> None:
        begun = await manner.caller.ask(
            S3Call(
                "POST",
                key,
                query={"uploads": ""},
                headers={
                    **self._traits.headers,
                    **s3_checksum.announced(manner.checksum),
                    "content-type": content_type,
                },
            ),
            PATIENT,
            self._traits.retries,
        )
        found = UPLOAD_ID.search(begun.body.decode(errors="replace"))
        if found is None:
            raise NotDone(Answer(0, "", "it began no upload in parts"))
        upload_id = unescape(found[1])
        try:
            await self._fill(manner, local, key, size_bytes, upload_id)
        except (NotDone, EgressError):
            # What has come stays there, and is paid for, until the upload is given up.
            try:
                call = S3Call("DELETE", key, query={"uploadId": upload_id})
                await manner.caller.ask(call, QUICK, ONCE_MORE)
            except NotDone:
                pass
            raise

    async def _fill(self, manner: S3Manner, local: Path, key: str, size_bytes: int, upload_id: str) -> None:
        chunk_bytes = part_bytes(size_bytes)
        waiting = iter(range(-(-size_bytes // chunk_bytes)))
        done: dict[int, str] = {}

        async def send_parts() -> None:
            # One for all parts: what each would allocate, the allocator keeps for each thread.
            buffer = memoryview(bytearray(chunk_bytes))
            for index in waiting:
                read = functools.partial(_read, local, index * chunk_bytes, buffer)
                body = buffer[: await manner.caller.work(read)]
                done[index + 1] = await self._part_sent(manner, key, upload_id, index + 1, body)

        sending = [asyncio.ensure_future(send_parts()) for _ in range(PARTS_AT_ONCE)]
        try:
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        parts = "".join(text for _, text in sorted(done.items()))
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        sums = s3_checksum.of(body, Checksum.NONE)
        call = S3Call(
            "POST",
            key,
            query={"uploadId": upload_id},
            headers={"content-type": "application/xml"},
            body=body,
            body_sha256=sums.sha256,
        )
        await manner.caller.ask(call, PATIENT, self._traits.retries)

    async def _part_sent(self, manner: S3Manner, key: str, upload_id: str, number: int, body: Body) -> str:
        """What the end of the upload says of it."""
        sums = await manner.caller.work(lambda: s3_checksum.of(body, manner.checksum))
        call = S3Call(
            "PUT",
            key,
            query={"partNumber": str(number), "uploadId": upload_id},
            headers=s3_checksum.headers(sums, manner.checksum),
            body=body,
            body_sha256=sums.sha256,
        )
        answer = await manner.caller.ask(call, PATIENT, self._traits.retries)
        etag = answer.headers.get("etag", "")
        if not etag:
            raise NotDone(Answer(0, "", "it gave no ETag to a part"))
        kept = s3_checksum.of_part(sums.value, manner.checksum)
        return f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>{kept}</Part>"

    async def _try(self, phase: Phase, call: Callable[[S3Manner], Awaitable[T]]) -> T:
        try:
            return await self._adapted(call)
        except NotDone as error:
            raise self._failed(error.answer, phase) from None

    async def _adapted(self, call: Callable[[S3Manner], Awaitable[T]]) -> T:
        """Again as long as an answer tells how else to go about it. Raises NotDone."""
        while True:
            manner = self._manner
            try:
                return await call(manner)
            except NotDone as error:
                if manner is self._manner:
                    other = self._otherwise(error)
                    if other is None:
                        raise
                    self._manner = other

    def _failed(self, answer: Answer, phase: Phase, task: str = "upload") -> EgressError:
        return failure(answer, self._traits.store, self.gateway, phase, task)


def _whole(local: Path, size_bytes: int) -> memoryview:
    buffer = memoryview(bytearray(size_bytes))
    return buffer[: _read(local, 0, buffer)]


def _read(local: Path, offset: int, buffer: memoryview) -> int:
    """How many bytes. Raises EgressError."""
    try:
        with local.open("rb") as file:
            file.seek(offset)
            return file.readinto(buffer)
    except OSError as error:
        raise unreadable(local, error) from error
