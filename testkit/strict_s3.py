"""moto with the checks of S3 that it lacks: which headers must or must not be sent, and whether they are
right."""

import base64
import hashlib
import io
import threading
import zlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

Rule = Callable[[Request], Response | None]
"""Answers instead of moto; None: moto does."""


CHECKSUM = "X-Amz-Checksum-"


def needs_checksum(request: Request) -> Response | None:
    """Like buckets with Object Lock, and MinIO's (User Guide, "Object Lock considerations")."""
    return _checked(request, "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests")


def needs_md5(request: Request) -> Response | None:
    """Like such buckets before there were other checksums: it knows only this one, and requires it."""
    return _checked(
        request, "Content-MD5 HTTP header is required for Put Object requests", only=("Content-MD5",)
    )


def _checked(request: Request, text: str, only: tuple[str, ...] = ()) -> Response | None:
    if request.method != "PUT" or not request.path.strip("/").count("/"):
        return None
    body = request.get_data(cache=True)
    right = {
        "Content-MD5": hashlib.md5(body).digest(),
        "X-Amz-Checksum-Sha256": hashlib.sha256(body).digest(),
        "X-Amz-Checksum-Crc32": zlib.crc32(body).to_bytes(4, "big"),
    }
    given = {name: value for name in only or right if (value := request.headers.get(name)) is not None}
    if not given:
        return refusal(400, "InvalidRequest", text)
    if any(value != base64.b64encode(right[name]).decode() for name, value in given.items()):
        return refusal(400, "BadDigest", "the checksum does not match")
    return None


def knows_no_checksum(request: Request) -> Response | None:
    """Answers like a store that does not know checksums."""
    for name, _ in request.headers:
        if name.lower().startswith("x-amz-checksum-"):
            text = f"Unsupported header '{name.lower()}' received for this API call."
            return refusal(400, "InvalidArgument", text)
    return None


def refusal(status: int, code: str, message: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(body, status, content_type="application/xml")


class StrictS3:
    """On 127.0.0.1 while it is entered, with one bucket. `seen` are the requests that it got."""

    bucket = "recordings"

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Method and headers."""
        self.completed: list[str] = []
        """The bodies with which uploads in parts were completed."""
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.client().create_bucket(Bucket=self.bucket)
        self.seen.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def client(self) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(
                proxies={}, s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
            ),
        )

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = Request(environ)
        self.seen.append((request.method, {name.lower(): value for name, value in request.headers.items()}))
        if request.method == "POST" and "uploadId" in request.args:
            self.completed.append(body.decode())
        answer = self._rule(request)
        environ["wsgi.input"] = io.BytesIO(body)
        if answer is not None:
            return answer(environ, start_response)
        told = [(name, value) for name, value in request.headers.items() if name.startswith(CHECKSUM)]

        def with_checksums(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            """S3 reports which checksum it has stored for an object and a part."""
            return start_response(status, [*headers, *told] if request.method == "PUT" else headers, *more)

        answered: Iterable[bytes] = self._moto(environ, with_checksums)
        return answered
