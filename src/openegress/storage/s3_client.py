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
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import botocore.exceptions
import botocore.parsers
import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from openegress.core import daemon_thread
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
_HOST, _BUCKET = "s3.invalid", "bucket"
"""What botocore is told, see S3Client."""
_BUNDLES = ("ca-certificates.crt", "ca-bundle.crt", "ca-bundle.pem", "cert.pem")
"""Of Debian, Fedora, SUSE, Alpine."""

Identity = Callable[[Any], None]
"""Gives a session of botocore the credentials it has to use."""


def ambient(session: Any) -> None:
    """Those of the machine or container, which botocore looks for in the order of AWS' SDKs."""


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
        self._scheme = urlsplit(address.endpoint).scheme
        self._base = address.endpoint if address.virtual_host else f"{address.endpoint}/{quote(bucket, '')}"
        self._region = region
        self._proxies = proxies(proxy)
        self._identity = identity
        self._session: Any = None
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

    async def presign(self, key: str, expires_s: int) -> str:
        """Raises NotDone."""

        def presigned() -> str:
            with self._making, _translated():
                request = AWSRequest("GET", f"{self._base}/{quote(key, '/~')}")
                credentials = self._signed_in().get_credentials()
                if credentials is None:
                    raise botocore.exceptions.NoCredentialsError
                S3SigV4QueryAuth(
                    credentials.get_frozen_credentials(), "s3", self._region, expires_s
                ).add_auth(request)
                return str(request.url)

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
            answer = getattr(self._client(patience), operation)(Bucket=_BUCKET, **parameters)
            assert isinstance(answer, dict)
            return answer | {"Body": answer["Body"].read()} if "Body" in answer else answer

    def _client(self, patience: CallTimeouts) -> Any:
        """One for each patience: botocore has its time-outs for a client."""
        with self._making:
            if patience not in self._clients:
                self._clients[patience] = self._made(patience)
            return self._clients[patience]

    def _made(self, patience: CallTimeouts) -> Any:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=patience.connect_s,
            read_timeout=patience.whole_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            proxies=self._proxies,
            user_agent="openegress",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = self._signed_in().create_client(
            "s3",
            region_name=self._region,
            endpoint_url=f"{self._scheme}://{_HOST}",
            verify=certificates(),
            config=config,
        )
        client.meta.events.register_last("before-parameter-build.s3", _follow_nowhere)
        client.meta.events.register_first("before-sign.s3", self._place)
        return client

    def _signed_in(self) -> Any:
        if self._session is None:
            session = new_session(is_given=self._identity is not ambient)
            self._identity(session)
            self._session = session
        return self._session

    def _place(self, request: Any, **_: object) -> None:
        """botocore knows no hosts with underscores, buckets with colons or endpoints with the bucket in them:
        it is told of one that it knows, and what it signs and sends goes where the storage is."""
        told = f"{self._scheme}://{_HOST}/{_BUCKET}"
        request.url = self._base + request.url.removeprefix(told)


def _follow_nowhere(context: dict[str, Any], **_: object) -> None:
    """What a redirect means is decided by S3Bucket. botocore would ask for the bucket's region itself, and go
    on asking where it is redirected for ever."""
    context["s3_redirect"]["redirected"] = True


def new_session(*, is_given: bool) -> Any:
    """Knows AWS' services as those before it: their descriptions take 50 ms to read. `is_given`: credentials
    are, so that profiles and files of this machine's own do not count."""
    nothing = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
    own = {name: (None, None, value, None) for name, value in nothing.items()}
    session = botocore.session.Session(session_vars=own if is_given else None)
    session.register_component("data_loader", _loader())
    return session


@functools.cache
def _loader() -> Any:
    return botocore.session.Session().get_component("data_loader")


def load() -> None:
    """What a client needs, in a process from which others are forked."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    new_session(is_given=True).create_client("s3", region_name="us-east-1", **keys).close()


def certificates() -> str | bool:
    """Of AWS_CA_BUNDLE or of the system (SSL_CERT_FILE, SSL_CERT_DIR), in one file; True, where there is
    none: of botocore's own list."""
    paths = ssl.get_default_verify_paths()
    inside = [Path(paths.capath) / name for name in _BUNDLES] if paths.capath else []
    found = next((str(each) for each in inside if each.is_file()), "")
    return os.environ.get("AWS_CA_BUNDLE") or paths.cafile or found or True


def proxies(proxy: Proxy | None) -> dict[str, str] | None:
    """None: those of the environment."""
    return None if proxy is None else dict.fromkeys(("http", "https"), proxy_url(proxy))


async def in_thread(task: Callable[[], T], name: str) -> T:
    """Of its own, which is left to itself when the wait is cancelled."""
    return await asyncio.wrap_future(daemon_thread.begun(f"s3 {name}", task))


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
            case ValueError() | TypeError():
                raise NotDone(_senseless(error)) from None


def _refused(error: "botocore.exceptions.ClientError") -> NotDone:
    found = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    told = str(found.get("Code", ""))
    code = told if CODE_NAME.fullmatch(told) else ""
    region = found.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    text = " ".join((*map(str, found.values()), f"<Region>{region}</Region>"))
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
        is_auth = "407 Proxy Authentication" in str(error.kwargs.get("error", ""))
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
    if isinstance(error, botocore.parsers.ResponseParserError):
        return Answer(0, "", "it answered with something else than S3")
    return _senseless(error)


def _senseless(error: Exception) -> Answer:
    """What botocore does not send: its name says what is wrong, and no other try will cure it."""
    return Answer(400, "", f"botocore refuses it ({shown(type(error).__name__, 64)})")
