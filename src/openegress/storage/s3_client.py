"""One S3 bucket through botocore, AWS' own client: signatures, identities, proxies, connections.

Calls run in threads of their own, which nobody waits for at the end of the process: botocore cannot give up a
request that a store leaves unanswered.
"""

import asyncio
import functools
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import botocore.exceptions
import botocore.session
from botocore.config import Config

from openegress.core.backoff import Backoff
from openegress.core.plan import Proxy
from openegress.core.text import shown
from openegress.storage.failures import (
    CODE_NAME,
    Answer,
    CredentialsRefused,
    CredentialsUnavailable,
    is_passing,
)
from openegress.storage.s3_address import Address
from openegress.storage.traits import Retries, proxy_url

T = TypeVar("T")

OF_THE_WHOLE = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder"})
"""What only another upload cures, not the same request."""
NO_IDENTITY = (
    "no credentials: set access_key and secret, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
    "environment, or give the machine a role"
)
CONNECTIONS = 8

Identity = Callable[[Any], None]
"""Gives a session of botocore the credentials it has to use; without any it looks for those of the machine or
container, in the order of AWS' SDKs."""


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds to connect (each address of a name), and for a request and its answer in all."""

    connect_s: float
    whole_s: float


class NotDone(Exception):
    """What a store answered instead of doing it. `text`: its own words, which nobody is told."""

    def __init__(self, answer: Answer, text: str = "") -> None:
        super().__init__(answer.words)
        self.answer = answer
        self.text = text


class S3Client:
    """All requests to one bucket, in one region."""

    def __init__(
        self,
        address: Address,
        bucket: str,
        region: str,
        proxy: Proxy | None,
        identity: Identity,
    ) -> None:
        """Raises EgressError for a proxy that is none."""
        self._address = address
        self._bucket = bucket
        self._region = region
        self._proxies = proxies(proxy)
        self._identity = identity
        self._clients: dict[CallTimeouts, Any] = {}
        self._making = threading.Lock()

    async def ask(
        self, operation: str, patience: CallTimeouts, retries: Retries, **parameters: object
    ) -> Mapping[str, Any]:
        """`operation` by botocore's name, of this bucket. Raises NotDone."""
        backoff = Backoff(retries.min_delay_s, max(retries.min_delay_s, retries.max_delay_s))
        began_s, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(patience.whole_s):
                    return await in_thread(
                        functools.partial(self._asked, operation, patience, parameters), operation
                    )
            except TimeoutError:
                failed = NotDone(Answer(0, "", "timed out"))
            except NotDone as error:
                failed = error
            spent_s = time.monotonic() - began_s
            is_final = not is_passing(failed.answer) or failed.answer.code in OF_THE_WHOLE
            if is_final or attempt > retries.most or spent_s > retries.within_s:
                raise failed
            await asyncio.sleep(backoff.delay_s(attempt))

    async def presign(self, key: str, expires_s: int, patience: CallTimeouts) -> str:
        """Raises NotDone."""

        def presigned() -> str:
            with _translated():
                client = self._client(patience)
                parameters = {"Bucket": self._bucket, "Key": key}
                return str(
                    client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s)
                )

        return await in_thread(presigned, "presign")

    async def close(self) -> None:
        """Idempotent."""
        with self._making:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _asked(
        self, operation: str, patience: CallTimeouts, parameters: Mapping[str, object]
    ) -> Mapping[str, Any]:
        with _translated():
            answer = getattr(self._client(patience), operation)(Bucket=self._bucket, **parameters)
            assert isinstance(answer, dict)
            return answer | {"Body": answer["Body"].read()} if "Body" in answer else answer

    def _client(self, patience: CallTimeouts) -> Any:
        """One for each patience: botocore has its time-outs for a client."""
        with self._making:
            if patience not in self._clients:
                self._clients[patience] = self._made(patience)
            return self._clients[patience]

    def _made(self, patience: CallTimeouts) -> Any:
        style = "virtual" if self._address.virtual_host else "path"
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=patience.connect_s,
            read_timeout=patience.whole_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            proxies=self._proxies,
            user_agent="openegress",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = new_session()
        self._identity(session)
        client = session.create_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._address.service,
            verify=certificates(),
            config=config,
        )
        client.meta.events.register_last("before-parameter-build.s3", _follow_nowhere)
        return client


def _follow_nowhere(context: dict[str, Any], **_: object) -> None:
    """What a redirect means is decided by S3Bucket. botocore would ask for the bucket's region itself, and go
    on asking where it is redirected for ever."""
    context["s3_redirect"]["redirected"] = True


def new_session() -> Any:
    """Knows AWS' services as those before it: their descriptions take 50 ms to read."""
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    return session


@functools.cache
def _loader() -> Any:
    return botocore.session.Session().get_component("data_loader")


def load() -> None:
    """What a client needs, in a process from which others are forked."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    new_session().create_client("s3", region_name="us-east-1", **keys).close()


def certificates() -> str | bool:
    """Of the system (SSL_CERT_FILE, SSL_CERT_DIR); True, where it has none: of botocore's own list."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def proxies(proxy: Proxy | None) -> dict[str, str] | None:
    """None: those of the environment."""
    return None if proxy is None else dict.fromkeys(("http", "https"), proxy_url(proxy))


async def in_thread(task: Callable[[], T], name: str) -> T:
    """Of its own, which is left to itself when the wait is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = task()
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    threading.Thread(target=run, name=f"s3 {name}", daemon=True).start()
    return await done


class _translated:
    """botocore's errors as NotDone; of their texts nothing but a code is told."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case None | NotDone():
                return
            case botocore.exceptions.ClientError():
                raise _refused(error) from None
            case CredentialsRefused():
                raise NotDone(Answer(403, "", str(error))) from None
            case CredentialsUnavailable():
                raise NotDone(Answer(0, "", str(error))) from None
            case botocore.exceptions.NoCredentialsError() | botocore.exceptions.PartialCredentialsError():
                raise NotDone(Answer(403, "", NO_IDENTITY)) from None
            case botocore.exceptions.BotoCoreError():
                raise NotDone(_unanswered(error)) from None
            case OSError():
                raise NotDone(Answer(0, "", "the connection was lost")) from None


def _refused(error: "botocore.exceptions.ClientError") -> NotDone:
    found = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    told = str(found.get("Code", ""))
    code = told if CODE_NAME.fullmatch(told) else ""
    text = " ".join(str(value) for value in found.values())
    if status == 200:
        status = 500  # S3 answers 200 to the end of an upload in parts before it has put them together
    return NotDone(Answer(status, code, code or f"HTTP status {status}"), text)


_ERRNO = re.compile(r"\[Errno (\d{1,4})\]")
_WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (botocore.exceptions.ConnectTimeoutError, "timed out"),
    (botocore.exceptions.ReadTimeoutError, "timed out"),
    (botocore.exceptions.SSLError, "no TLS connection came about, or its certificate is not accepted"),
    (botocore.exceptions.ConnectionClosedError, "the connection was closed before the answer"),
    (botocore.exceptions.ResponseStreamingError, "the connection was closed before the answer"),
)


def _unanswered(error: "botocore.exceptions.BotoCoreError") -> Answer:
    if isinstance(error, botocore.exceptions.ProxyConnectionError):
        is_auth = "407" in str(error)
        return Answer(407 if is_auth else 0, "", "proxy authentication required" if is_auth else "no proxy")
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return Answer(0, "", words)
    if isinstance(error, botocore.exceptions.HTTPClientError | botocore.exceptions.ConnectionError):
        cause = str(error.kwargs.get("error", ""))
        if "resolve" in cause:
            return Answer(0, "", "the host name is not known")
        number = _ERRNO.search(cause)
        return Answer(0, "", os.strerror(int(number[1])) if number else "the connection was lost")
    # Its name says what: a parameter, an endpoint, an answer that is none.
    return Answer(0, "", shown(type(error).__name__, 64))
