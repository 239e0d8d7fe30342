"""One request to S3: signed, sent, tried again, and its answer read."""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from openegress.core.backoff import Backoff
from openegress.storage import sigv4
from openegress.storage.failures import (
    Answer,
    CredentialsRefused,
    CredentialsUnavailable,
    answer_of,
    is_passing,
)
from openegress.storage.http_link import Body, CallTimeouts, HttpAnswer, HttpLink, NotAnswered
from openegress.storage.s3_address import Address
from openegress.storage.sigv4 import Credentials, Scope
from openegress.storage.traits import Retries

T = TypeVar("T")

CredentialSource = Callable[[], Awaitable[Credentials]]
RENEWED_BEFORE_S = 300.0
"""Credentials that end so soon are asked for again: an upload has its time."""
FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
"""Of a header (RFC 9110, 5.5)."""
OF_THE_WHOLE = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder"})
"""What only another upload cures, not the same request."""


@dataclass(frozen=True, slots=True)
class S3Call:
    """`key`: the object's; `body_sha256`: hexadecimal, computed where the body was read."""

    method: str
    key: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""
    body_sha256: str = hashlib.sha256(b"").hexdigest()


class NotDone(Exception):
    """What a store answered instead of doing it. `text`: its own words, which nobody is told."""

    def __init__(self, answer: Answer, text: str = "") -> None:
        super().__init__(answer.words)
        self.answer = answer
        self.text = text


class KeptCredentials:
    """Of a source, asked again before they end."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._known: Credentials | None = None
        self._asking = asyncio.Lock()

    async def __call__(self) -> Credentials:
        async with self._asking:
            known = self._known
            if known is None or (
                known.expires_s is not None and known.expires_s - time.time() < RENEWED_BEFORE_S
            ):
                self._known = known = await self._source()
            return known


class S3Caller:
    """All requests to one bucket, in one region."""

    def __init__(
        self, link: HttpLink, address: Address, bucket: str, region: str, credentials: CredentialSource
    ) -> None:
        parts = urlsplit(address.endpoint)
        self._link = link
        self._endpoint = address.endpoint
        self._host = parts.netloc.rpartition("@")[2]
        self._base = parts.path.rstrip("/") + ("" if address.virtual_host else f"/{bucket}")
        self._scope = Scope(region)
        self._credentials = credentials

    async def work(self, task: Callable[[], T]) -> T:
        """In a thread that requests have too."""
        return await self._link.work(task)

    async def ask(self, call: S3Call, patience: CallTimeouts, retries: Retries) -> HttpAnswer:
        """A 2xx. Raises NotDone."""
        backoff = Backoff(retries.min_delay_s, max(retries.min_delay_s, retries.max_delay_s))
        began_s, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                return await self._asked(call, patience)
            except NotDone as error:
                spent_s = time.monotonic() - began_s
                is_final = not is_passing(error.answer) or error.answer.code in OF_THE_WHOLE
                if is_final or attempt > retries.most or spent_s > retries.within_s:
                    raise
            await asyncio.sleep(backoff.delay_s(attempt))

    async def presign(self, key: str, expires_s: int) -> str:
        """Raises NotDone."""
        path = self._path(key)
        credentials = await self._signer()
        query = sigv4.presigned(path, self._host, expires_s, credentials, self._scope, time.time())
        scheme = urlsplit(self._endpoint).scheme
        return f"{scheme}://{self._host}{path}?{query}"

    async def _asked(self, call: S3Call, patience: CallTimeouts) -> HttpAnswer:
        path, query = self._path(call.key), sigv4.query_text(call.query)
        headers = sigv4.authorized(
            call.method,
            path,
            call.query,
            {"host": self._host, **call.headers},
            call.body_sha256,
            await self._signer(),
            self._scope,
            time.time(),
        )
        for name, value in headers.items():
            if not FIELD_VALUE.fullmatch(value):
                what = "access_key" if name == "authorization" else f"what is sent as {name}"
                raise NotDone(Answer(400, "", f"{what} has a line break, or a character that is not ASCII"))
        target = f"{path}?{query}" if query else path
        try:
            answer = await self._link.ask(call.method, target, headers, call.body, patience)
        except NotAnswered as error:
            raise NotDone(error.answer) from None
        text = answer.body.decode(errors="replace")
        if answer.status // 100 != 2:
            raise NotDone(answer_of(answer.status, text), text)
        if "<Error>" in text[:1024]:
            # S3 answers 200 to the end of an upload in parts before it has put them together.
            raise NotDone(answer_of(500, text), text)
        return answer

    async def _signer(self) -> Credentials:
        try:
            return await self._credentials()
        except CredentialsRefused as error:
            raise NotDone(Answer(403, "", str(error))) from None
        except CredentialsUnavailable as error:
            raise NotDone(Answer(0, "", str(error))) from None

    def _path(self, key: str) -> str:
        return sigv4.quoted_path(f"{self._base}/{key}")
