"""What only S3 has: metadata, tags, disposition, roles, regions, write-only identities; and that nobody is
asked for credentials when they are given."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.storages import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    Proxy,
    S3Storage,
    StoragePlan,
)
from openegress.storage import open_storage
from openegress.storage.s3_client import certificates
from openegress.storage.uploader import Uploader
from testkit.gcs_double import GcsDouble
from testkit.servers import AuthProxy, Azurite, S3Server

BUCKET = "recordings"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "spooled.mp4"
    path.write_bytes(bytes(9 * 1024 * 1024))
    return path


def plain(server: S3Server) -> S3Storage:
    return S3Storage(bucket=BUCKET, access_key="key", secret="secret", endpoint=server.url)


@pytest.mark.parametrize("asked", ["", "attachment; filename=a.mp4"])
async def test_objects_carry_what_was_asked(s3: S3Server, recording: Path, asked: str) -> None:
    backend = msgspec.structs.replace(
        plain(s3),
        metadata={"room": "a b", "customer": "7"},
        tagging="project=x&keep=a+year",
        content_disposition=asked,
    )
    storage = await open_storage(backend)
    small = recording.with_name("small")
    small.write_bytes(b"small")
    for local, key in ((small, "small.mp4"), (recording, "large.mp4")):
        await storage.put(local, key, "video/mp4")
        head = s3.client().head_object(Bucket=BUCKET, Key=key)
        assert head["Metadata"] == {"room": "a b", "customer": "7"}
        assert head["ContentDisposition"] == (asked or "inline")
        tags = s3.client().get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"project": "x", "keep": "a year"}


async def test_role_needs_its_external_id(tmp_path: Path) -> None:
    """moto does not look at a role's trust, so what it was asked is read from a double."""
    with Recorder(
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>", 403
    ) as sts:
        backend = S3Storage(
            bucket=BUCKET,
            access_key="key",
            secret="very-secret",
            endpoint=sts.url,
            assume_role_arn="arn:aws:iam::123456789012:role/recorder",
            assume_role_external_id="customer-7",
        )
        storage = await open_storage(backend)
        with pytest.raises(EgressError, match=r"AssumeRole: AccessDenied \(") as raised:
            await storage.check("a.mp4")
    assert raised.value.fault is Fault.CALLER
    assert "very-secret" not in raised.value.message
    body = sts.bodies[0].decode()
    assert "Action=AssumeRole" in body
    assert "ExternalId=customer-7" in body


@pytest.mark.parametrize("wrong", [{"assume_role_arn": "role"}, {"assume_role_external_id": "x"}])
async def test_a_role_that_sts_would_not_take_is_refused(wrong: dict[str, Any]) -> None:
    """By its form, which nobody is asked about."""
    role: dict[str, Any] = {"assume_role_arn": "arn:aws:iam::123456789012:role/recorder"} | wrong
    backend = S3Storage(bucket=BUCKET, access_key="k", secret="s-e-c", endpoint="http://127.0.0.1:1", **role)
    with pytest.raises(EgressError, match="STS does not accept this assume_role_arn or") as raised:
        await (await open_storage(backend)).check("a.mp4")
    assert (raised.value.code, raised.value.fault) == (Code.INVALID_ARGUMENT, Fault.CALLER)


class Recorder:
    """An HTTP server that answers everything alike and keeps what it was asked."""

    def __init__(self, body: bytes = b"", status: int = 200) -> None:
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                recorder.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                recorder.requests.append(f"{self.command} {self.path}")
                recorder.headers.append({name.lower(): value for name, value in self.headers.items()})
                reply_status, reply = recorder.reply(self.headers.get("Authorization", ""))
                self.send_response(reply_status)
                self.send_header("Content-Length", str(len(reply)))
                self.send_header("ETag", '"e"')
                self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._reply = (status, body)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def reply(self, authorization: str) -> tuple[int, bytes]:
        return self._reply

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class FrankfurtOnly(Recorder):
    """S3 as it answers requests signed for another region than the bucket's."""

    def reply(self, authorization: str) -> tuple[int, bytes]:
        if "/eu-central-1/s3/" in authorization:
            return 200, b""
        return 400, (
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed;"
            b" the region 'us-east-1' is wrong; expecting 'eu-central-1'</Message></Error>"
        )


async def test_region_is_learned_when_none_is_configured(recording: Path) -> None:
    with FrankfurtOnly() as server:
        backend = S3Storage(bucket=BUCKET, access_key="key", secret="secret", endpoint=server.url)
        storage = await open_storage(backend)
        await storage.check("a.mp4")
        await storage.check("b.mp4")
        refused = [headers for headers in server.headers if "/us-east-1/" in headers["authorization"]]
        assert len(refused) == 1
        wrong = await open_storage(msgspec.structs.replace(backend, region="us-east-1"))
        with pytest.raises(EgressError, match="is in another region than `region` says") as raised:
            await wrong.check("a.mp4")
        assert raised.value.code is Code.INVALID_ARGUMENT


class WriteOnly(Recorder):
    """A bucket whose policy allows PutObject and nothing else."""

    def reply(self, authorization: str) -> tuple[int, bytes]:
        if self.requests[-1].startswith("PUT"):
            return 200, b""
        return 403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


async def test_write_only_identity_is_enough(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    with WriteOnly() as server:
        backend = S3Storage(bucket=BUCKET, access_key="key", secret="secret", endpoint=server.url)
        uploader = Uploader(StoragePlan(backend=backend))
        await uploader.check("d/a.mp4")
        await uploader.put(small, "d/a.mp4", "video/mp4", delete_local=True)
    assert [request.split()[0] for request in server.requests] == ["PUT", "DELETE", "PUT", "HEAD"]
    assert not small.exists()


async def test_oss_is_asked_at_its_s3_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a proxy, as the name does not resolve here."""
    with Recorder() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        backend = AliOSSStorage(
            bucket=BUCKET, access_key="key", secret="secret", endpoint="http://oss-cn-hangzhou.aliyuncs.com"
        )
        await (await open_storage(backend)).check("d/a.mp4")
    put, delete = proxy.headers
    assert put["host"] == f"{BUCKET}.s3.oss-cn-hangzhou.aliyuncs.com"
    assert "/cn-hangzhou/s3/aws4_request" in put["authorization"]
    assert proxy.requests[1].startswith("DELETE ")
    assert delete["host"] == put["host"]


@pytest.fixture
async def metadata_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Every address under which a cloud hands out credentials, and an environment full of stale ones."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name, value in {
        "AWS_METADATA_ENDPOINT": url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/ecs",
        "AWS_ENDPOINT_URL": f"{url}/elsewhere",
        "AWS_ACCESS_KEY_ID": "stale",
        "AWS_SECRET_ACCESS_KEY": "stale",
        "AWS_SESSION_TOKEN": "stale",
        "AWS_SKIP_SIGNATURE": "true",
        "AZURE_MSI_ENDPOINT": url,
        "IDENTITY_ENDPOINT": url,
        "AZURE_STORAGE_TOKEN": "stale",
        "AZURE_STORAGE_ACCOUNT_KEY": "c3RhbGU=",
        "GCE_METADATA_HOST": url.removeprefix("http://"),
        "GCE_METADATA_IP": url.removeprefix("http://"),
    }.items():
        monkeypatch.setenv(name, value)
    yield asked
    server.close()
    await server.wait_closed()


async def test_given_credentials_are_the_only_ones(metadata_server: list[str], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    with S3Server(enforce=True) as s3, Azurite() as azurite, GcsDouble() as gcs:
        for create in (s3.create_bucket, azurite.create_container, gcs.create_bucket):
            create(BUCKET)
        backends: list[Backend] = [
            S3Storage(bucket=BUCKET, access_key=s3.access_key, secret=s3.secret, endpoint=s3.url),
            AliOSSStorage(bucket=BUCKET, access_key=s3.access_key, secret=s3.secret, endpoint=s3.url),
            AzureStorage(
                container=BUCKET,
                account_name=azurite.account,
                account_key=azurite.key,
                endpoint=azurite.endpoint,
            ),
            GCPStorage(bucket=BUCKET, credentials=gcs.credentials()),
        ]
        for backend in backends:
            storage = await open_storage(backend)
            await storage.check("d/a.mp4")
            await storage.put(small, "d/a.mp4", "video/mp4")
            assert await storage.size("d/a.mp4") == 5
            await storage.presign("d/a.mp4", 60)
    assert metadata_server == []


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is of this machine."""
    asked = socket.getaddrinfo

    def found(host: str, *args: Any, **kwargs: Any) -> Any:
        return asked("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("host", "bucket", "path"),
    [
        ("minio_server", "b", "/b/d/x%20y.mp4"),
        ("store.example", "tenant:b", "/tenant%3Ab/d/x%20y.mp4"),
        ("10.example", "10", "/d/x%20y.mp4"),
        ("my.bucket.store.example", "my.bucket", "/d/x%20y.mp4"),
    ],
)
async def test_hosts_and_buckets_that_aws_has_not(tmp_path: Path, host: str, bucket: str, path: str) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with Recorder() as server:
        port = server.url.rpartition(":")[2]
        backend = S3Storage(bucket, "key", "secret", endpoint=f"http://{host}:{port}")
        storage = await open_storage(backend)
        await storage.put(tmp_path / "x", "d/x y.mp4", "video/mp4")
        url = await storage.presign("d/x y.mp4", 60)
        await storage.close()
    assert server.requests == [f"PUT {path}"]
    assert server.headers[0]["host"] == f"{host}:{port}"
    assert url.startswith(f"http://{host}:{port}{path}?")


class Elsewhere(Recorder):
    """A store that names another region each time: in its answer, or where there is none, beside it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def reply(self, authorization: str) -> tuple[int, bytes]:
        if not self._left:
            return 200, b""
        self._left -= 1
        code = b"<Code>AuthorizationHeaderMalformed</Code><Region>eu-%d</Region>" % self._left
        return 400, b"<Error>" + code + b"</Error>"


@pytest.mark.parametrize(("most", "requests"), [(2, 3), (100, 4)])
async def test_a_store_is_followed_so_far(tmp_path: Path, most: int, requests: int) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with Elsewhere(most) as server:
        storage = await open_storage(S3Storage(BUCKET, "key", "secret", endpoint=server.url))
        if most < 3:
            await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
        else:
            with pytest.raises(EgressError, match="another region"):
                await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
        await storage.close()
    assert len(server.requests) == requests


@pytest.mark.parametrize("fields", [{"region": "us_east"}, {"region": "1"}, {"region": "-a"}])
async def test_what_is_no_region(fields: dict[str, Any]) -> None:
    with pytest.raises(EgressError, match="is not the name of a region") as raised:
        await open_storage(S3Storage(BUCKET, "key", "secret", **fields))
    assert raised.value.fault is Fault.CALLER


async def test_a_proxy_that_wants_another_password() -> None:
    with AuthProxy() as proxy:
        wrong = Proxy(proxy.url, proxy.username, "wrong")
        storage = await open_storage(
            S3Storage(BUCKET, "key", "secret", endpoint="https://localhost:1", proxy=wrong)
        )
        with pytest.raises(EgressError, match="proxy authentication required") as raised:
            await storage.check("x.mp4")
        await storage.close()
    assert raised.value.fault is Fault.CALLER and "wrong" not in raised.value.message


async def test_a_profile_of_the_server_does_not_count_beside_given_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "recordings")
    (tmp_path / "x").write_bytes(b"x")
    with Recorder() as server:
        storage = await open_storage(S3Storage(BUCKET, "key", "secret", endpoint=server.url))
        await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
        await storage.close()
    assert len(server.requests) == 1


def test_certificates_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(cafile: Any) -> ssl.DefaultVerifyPaths:
        return ssl.DefaultVerifyPaths(cafile, str(tmp_path), "", "", "", "")

    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: known("/a.pem"))
    assert certificates() == "/a.pem"
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: known(None))
    assert certificates() is True, "a folder is none"
    (tmp_path / "ca-certificates.crt").write_text("")
    assert certificates() == str(tmp_path / "ca-certificates.crt")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/theirs.pem")
    assert certificates() == "/theirs.pem"
