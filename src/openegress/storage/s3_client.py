"""Accesses one S3 bucket through botocore, AWS' own client: signatures, identities, proxies, connections.

Calls run in daemon threads, as botocore cannot cancel a request that a store leaves unanswered.
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
from openegress.core.storages import Proxy
from openegress.core.text import shown
from openegress.storage.failures import (
    CODE_NAME,
    Answer,
    CredentialsRefused,
    CredentialsUnavailable,
    is_transient,
    lacks,
)
from openegress.storage.s3_address import Address
from openegress.storage.traits import Retries, proxy_url

T = TypeVar("T")

NEEDS_NEW_UPLOAD = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder"})
"""Error codes after which the whole upload has to be repeated, and not only the request."""
NO_IDENTITY = (
    "no credentials: set access_key and secret, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
    "environment, or give the machine a role"
)
CONNECTIONS = 8
_HOST, _BUCKET = "s3.invalid", "bucket"
"""Placeholders for botocore, see S3Client._place."""
_BUNDLES = ("ca-certificates.crt", "ca-bundle.crt", "ca-bundle.pem", "cert.pem")
"""Names of certificate bundles on Debian, Fedora, SUSE and Alpine."""

Identity = Callable[[Any], None]
"""Sets the credentials of a botocore session."""


def ambient(session: Any) -> None:
    """Leaves the identity to botocore, which finds that of the machine or container in the order of AWS'
    SDKs."""


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds to connect (each address of a name), and for a request and its answer in all."""

    connect_s: float
    whole_s: float


class S3Failure(Exception):
    """Raised if a call failed. `text` is the store's own text, which must not be shown to anybody."""

    def __init__(self, answer: Answer, text: str = "") -> None:
        super().__init__(answer.words)
        self.answer = answer
        self.text = text


class S3Client:
    """Sends all requests to one bucket in one region."""

    def __init__(
        self,
        address: Address,
        bucket: str,
        region: str,
        proxy: Proxy | None,
        identity: Identity,
    ) -> None:
        """Raises EgressError if the proxy's URL is invalid."""
        self._scheme = urlsplit(address.endpoint).scheme
        self._base = address.endpoint if address.virtual_host else f"{address.endpoint}/{quote(bucket, '')}"
        self._region = region
        self._proxies = proxies(proxy)
        self._identity = identity
        self._session: Any = None
        self._clients: dict[CallTimeouts, Any] = {}
        self._making = threading.Lock()

    async def ask(
        self, operation: str, timeouts: CallTimeouts, retries: Retries, **parameters: object
    ) -> Mapping[str, Any]:
        """Calls `operation` (by botocore's name) on this bucket and returns the answer. Raises S3Failure."""
        backoff = Backoff(retries.min_delay_s, max(retries.min_delay_s, retries.max_delay_s))
        began_s, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(timeouts.whole_s):
                    return await in_thread(
                        functools.partial(self._asked, operation, timeouts, parameters), operation
                    )
            except TimeoutError:
                failed = S3Failure(Answer(0, "", "timed out"))
            except S3Failure as error:
                failed = error
            spent_s = time.monotonic() - began_s
            is_final = not is_transient(failed.answer) or failed.answer.code in NEEDS_NEW_UPLOAD
            if is_final or attempt > retries.most or spent_s > retries.within_s:
                raise failed
            await asyncio.sleep(backoff.delay_s(attempt))

    async def presign(self, key: str, expires_s: int) -> str:
        """A URL that reads the object for `expires_s` seconds. Raises S3Failure."""

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
        """Closes all clients. Idempotent."""
        with self._making:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _asked(
        self, operation: str, timeouts: CallTimeouts, parameters: Mapping[str, object]
    ) -> Mapping[str, Any]:
        with _translated():
            answer = getattr(self._client(timeouts), operation)(Bucket=_BUCKET, **parameters)
            assert isinstance(answer, dict)
            return answer | {"Body": answer["Body"].read()} if "Body" in answer else answer

    def _client(self, timeouts: CallTimeouts) -> Any:
        """The client for a pair of time-outs, as botocore sets them for a whole client."""
        with self._making:
            if timeouts not in self._clients:
                self._clients[timeouts] = self._made(timeouts)
            return self._clients[timeouts]

    def _made(self, timeouts: CallTimeouts) -> Any:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=timeouts.connect_s,
            read_timeout=timeouts.whole_s,
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
        client.meta.events.register_last("before-parameter-build.s3", _ignore_redirects)
        client.meta.events.register_first("before-sign.s3", self._place)
        return client

    def _signed_in(self) -> Any:
        if self._session is None:
            session = new_session(is_given=self._identity is not ambient)
            self._identity(session)
            self._session = session
        return self._session

    def _place(self, request: Any, **_: object) -> None:
        """Replaces the placeholder host and bucket by the real ones before the request is signed. botocore
        itself refuses hosts with underscores, buckets with colons, and endpoints that contain the bucket."""
        placeholder = f"{self._scheme}://{_HOST}/{_BUCKET}"
        request.url = self._base + request.url.removeprefix(placeholder)


def _ignore_redirects(context: dict[str, Any], **_: object) -> None:
    """Keeps botocore from following redirects by itself, which may never end. S3Bucket handles them."""
    context["s3_redirect"]["redirected"] = True


def new_session(*, is_given: bool) -> Any:
    """A botocore session. All share one loader of service descriptions, which take 50 ms to read. `is_given`:
    the backend has credentials, so profiles and files of this machine are ignored."""
    nothing = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
    own = {name: (None, None, value, None) for name, value in nothing.items()}
    session = botocore.session.Session(session_vars=own if is_given else None)
    session.register_component("data_loader", _loader())
    return session


@functools.cache
def _loader() -> Any:
    return botocore.session.Session().get_component("data_loader")


def load() -> None:
    """Loads everything that a client needs, in the process that handlers are forked from."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    new_session(is_given=True).create_client("s3", region_name="us-east-1", **keys).close()


def certificates() -> str | bool:
    """The file of trusted certificates: that of AWS_CA_BUNDLE, or the system's (SSL_CERT_FILE, SSL_CERT_DIR).
    True if there is none, which makes botocore use its own list."""
    paths = ssl.get_default_verify_paths()
    inside = [Path(paths.capath) / name for name in _BUNDLES] if paths.capath else []
    found = next((str(each) for each in inside if each.is_file()), "")
    return os.environ.get("AWS_CA_BUNDLE") or paths.cafile or found or True


def proxies(proxy: Proxy | None) -> dict[str, str] | None:
    """The proxies by scheme, for botocore; None: the proxies of the environment."""
    return None if proxy is None else dict.fromkeys(("http", "https"), proxy_url(proxy))


async def in_thread(task: Callable[[], T], name: str) -> T:
    """Runs `task` in a daemon thread and returns its result. A cancelled caller leaves the thread running."""
    return await asyncio.wrap_future(daemon_thread.submit(f"s3 {name}", task))


class _translated:
    """Turns botocore's errors into S3Failure. Only error codes of their texts are kept."""

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case None | S3Failure():
                return
            case botocore.exceptions.ClientError():
                raise _refused(error) from None
            case CredentialsRefused():
                raise S3Failure(Answer(403, "", str(error))) from None
            case CredentialsUnavailable():
                raise S3Failure(Answer(0, "", str(error))) from None
            case botocore.exceptions.NoCredentialsError() | botocore.exceptions.PartialCredentialsError():
                raise S3Failure(Answer(403, "", NO_IDENTITY)) from None
            case botocore.exceptions.BotoCoreError():
                raise S3Failure(_unanswered(error)) from None
            case OSError():
                raise S3Failure(Answer(0, "", "the connection was lost")) from None
            case KeyError():
                # botocore reads the answer of a container's credentials (its ContainerProvider) unchecked.
                raise S3Failure(lacks(shown(str(*error.args[:1]), 64))) from None
            case ValueError() | TypeError():
                raise S3Failure(_malformed(error)) from None


def _refused(error: "botocore.exceptions.ClientError") -> S3Failure:
    found = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    told = str(found.get("Code", ""))
    code = told if CODE_NAME.fullmatch(told) else ""
    region = found.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    text = " ".join((*map(str, found.values()), f"<Region>{region}</Region>"))
    if status == 200:
        status = 500  # S3 answers 200 to the end of an upload in parts before it has put them together
    return S3Failure(Answer(status, code, code or f"HTTP status {status}"), text)


_ERRNO = re.compile(r"\[Errno (\d{1,4})\]")
_WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (botocore.exceptions.ConnectTimeoutError, "timed out"),
    (botocore.exceptions.ReadTimeoutError, "timed out"),
    (botocore.exceptions.SSLError, "no TLS connection was established, or its certificate is not accepted"),
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
        return Answer(0, "", "it answered with something other than S3")
    return _malformed(error)


def _malformed(error: Exception) -> Answer:
    """The answer for a request that botocore refuses to send. The name of its error says what is wrong, and a
    retry would not help."""
    return Answer(400, "", f"botocore refuses it ({shown(type(error).__name__, 64)})")
