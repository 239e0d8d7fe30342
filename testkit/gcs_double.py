"""Google Cloud Storage's XML API as far as recordings need it: objects and multipart uploads, in memory.

No emulator in a registry speaks it well enough for obstore.
https://cloud.google.com/storage/docs/xml-api/overview
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

RANGE = re.compile(r"bytes=(\d+)-(\d+)")
PART_NUMBER = re.compile(r"<PartNumber>(\d+)</PartNumber>")


@dataclass
class Object:
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    stored: str = field(default_factory=lambda: formatdate(usegmt=True))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class GcsDouble:
    """Has the given buckets, and admits holders of its service account's key."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Object]] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        """Unfinished uploads: id to content type and parts."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._started = 0
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = double.answer(self.command, self.path, self.headers, body)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="gcs-double")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def create_bucket(self, name: str) -> str:
        self.buckets[name] = {}
        return name

    def credentials(self, stranger: bool = False) -> str:
        """The JSON of a service account that leads here; a stranger's has an unknown key."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if stranger else self._key
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "gcs_base_url": self.url,
                "client_email": "recorder@example.iam.gserviceaccount.com",
                "private_key": pem.decode(),
                "private_key_id": "0123456789abcdef",
            }
        )

    def admits(self, authorization: str, query: dict[str, str]) -> bool:
        """Accepts a self-signed token (AIP-4111), or a V4 signed URL, whose form alone is checked."""
        if "X-Goog-Signature" in query:
            return query.get("X-Goog-Expires") == "604800"
        try:
            jwt.decode(authorization.removeprefix("Bearer "), self._key.public_key(), algorithms=["RS256"])
        except jwt.InvalidTokenError:
            return False
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Reply:
        url = urlsplit(target)
        bucket, _, key = unquote(url.path.lstrip("/")).partition("/")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        content_type = headers.get("Content-Type", "")
        with self._lock:
            if not self.admits(headers.get("Authorization", ""), query):
                return failure(401, "AuthenticationRequired", "Authentication required.")
            if bucket not in self.buckets:
                return failure(404, "NoSuchBucket", "The specified bucket does not exist.")
            if "uploads" in query or "uploadId" in query:
                return self._multipart(method, self.buckets[bucket], key, query, content_type, body)
            return self._object(method, self.buckets[bucket], key, headers, body)

    def _object(
        self, method: str, objects: dict[str, Object], key: str, headers: Message, body: bytes
    ) -> Reply:
        content_type = headers.get("Content-Type", "")
        asked = RANGE.fullmatch(headers.get("Range", "")) if method == "GET" else None
        if method == "PUT":
            objects[key] = Object(body, {"Content-Type": content_type})
            return Reply(headers={"ETag": objects[key].etag})
        found = objects.get(key)
        if found is None:
            return failure(404, "NoSuchKey", "The specified key does not exist.")
        if method == "DELETE":
            del objects[key]
            return Reply(204)
        dated = {"ETag": found.etag, "Last-Modified": found.stored}
        if asked is not None:
            first, last = int(asked[1]), min(int(asked[2]), len(found.data) - 1)
            places = {"Content-Range": f"bytes {first}-{last}/{len(found.data)}"}
            part = found.data[first : last + 1]
            return Reply(206, part, headers={**found.headers, **dated, **places})
        return Reply(body=found.data, headers={**found.headers, **dated})

    def _multipart(
        self,
        method: str,
        objects: dict[str, Object],
        key: str,
        query: dict[str, str],
        content_type: str,
        body: bytes,
    ) -> Reply:
        if "uploads" in query:
            self._started += 1
            name = f"upload-{self._started}"
            self.uploads[name] = (content_type, {})
            return document("InitiateMultipartUploadResult", Bucket="b", Key="k", UploadId=name)
        name = query["uploadId"]
        if name not in self.uploads:
            return failure(404, "NoSuchUpload", "The upload ID is invalid.")
        kept_type, parts = self.uploads[name]
        if method == "PUT":
            parts[int(query["partNumber"])] = body
            return Reply(headers={"ETag": Object(body).etag})
        del self.uploads[name]
        if method == "DELETE":
            return Reply(204)
        whole = b"".join(parts[int(number)] for number in PART_NUMBER.findall(body.decode()))
        objects[key] = Object(whole, {"Content-Type": kept_type})
        return document("CompleteMultipartUploadResult", Bucket="b", Key="k", ETag=objects[key].etag)


def document(root: str, **fields: str) -> Reply:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return Reply(200, f"<{root}>{inner}</{root}>".encode(), {"Content-Type": "application/xml"})


def failure(status: int, code: str, message: str) -> Reply:
    reply = document("Error", Code=code, Message=message)
    return Reply(status, reply.body, reply.headers)
