"""Stores that answer 200 and leave out what belongs to the answer: the error names it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from openegress.core.errors import EgressError
from openegress.core.storages import AliOSSStorage, AzureStorage, GCPStorage, S3Storage
from openegress.storage import alioss, azure, gcp, s3
from openegress.storage.traits import PART_BYTES

ROLE = "arn:aws:iam::123456789012:role/x"
CREDENTIALS = (
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>a</AccessKeyId>"
    "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
)


class BareStore:
    """A store that answers 200 to everything, with a body and no headers that mean anything."""

    def __init__(self) -> None:
        self.body = b""
        self.paths: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.paths.append(str(request.rel_url))
        return web.Response(body=self.body)


@pytest.fixture
async def bare() -> AsyncIterator[BareStore]:
    store = BareStore()
    app = web.Application(client_max_size=4 * PART_BYTES)
    app.router.add_route("*", "/{path:.*}", store.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    store.url = "http://{}:{}".format(*runner.addresses[0])
    yield store
    await runner.cleanup()


def _s3(url: str, **fields: Any) -> Any:
    keys = {"access_key": "a", "secret": "b"} | fields
    return s3.connect(
        S3Storage("bkt", endpoint=url, force_path_style=True, max_retries=1, max_retry_delay_s=0.2, **keys)
    )


def _role(url: str) -> Any:
    return _s3(url, assume_role_arn=ROLE)


def _ambient(url: str) -> Any:
    return _s3(url, access_key="", secret="")


def _alioss(url: str) -> Any:
    return alioss.connect(AliOSSStorage("bkt", access_key="a", secret="b", endpoint=url))


def _azure(url: str) -> Any:
    return azure.connect(AzureStorage("cont", account_name="acc", account_key="YWJj", endpoint=url))


def _gcp(url: str) -> Any:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"private_key": key.decode(), "private_key_id": "1", "client_email": "a@b", "gcs_base_url": url}
    return gcp.connect(GCPStorage("bkt", credentials=json.dumps(account | {"disable_oauth": True})))


def _small(bucket: Any, folder: Path) -> Any:
    (folder / "small").write_bytes(b"x")
    return bucket.put(folder / "small", "f/a", "text/plain")


def _big(bucket: Any, folder: Path) -> Any:
    (folder / "big").write_bytes(bytes(PART_BYTES + 1))
    return bucket.put(folder / "big", "f/b", "text/plain")


def _size(bucket: Any, _: Path) -> Any:
    return bucket.size("f/a")


def _changed(bucket: Any, _: Path) -> Any:
    return bucket.changed_s("f/a")


@pytest.mark.parametrize(
    ("connect", "call", "body", "why"),
    [
        (_s3, _big, "", "S3 upload failed: its answer has no UploadId (bucket 'bkt'"),
        (_s3, _big, "<A/>", "S3 upload failed: its answer has no UploadId (bucket 'bkt'"),
        (_s3, _big, "<A><UploadId>7</UploadId></A>", "S3 upload failed: it gave no ETag to a part"),
        (_s3, _size, "", "S3 reading failed: its answer has no ContentLength (bucket 'bkt'"),
        (_s3, _changed, "", "S3 reading failed: its answer has no LastModified (bucket 'bkt'"),
        (_alioss, _big, "", "AliOSS upload failed: its answer has no UploadId (bucket 'bkt'"),
        (_alioss, _changed, "", "AliOSS reading failed: its answer has no LastModified (bucket 'bkt'"),
        (_role, _small, "<A/>", "S3 upload failed: AssumeRole: its answer has no "),
        (
            _role,
            _small,
            "<A><ResponseMetadata/><AssumeRoleResult/></A>",
            "AssumeRole: its answer has no AccessKeyId, SecretAccessKey, SessionToken, Expiration",
        ),
        (_role, _small, CREDENTIALS, "AssumeRole: its answer has no SecretAccessKey, SessionToken"),
        (_role, _small, "", "S3 upload failed: AssumeRole: ResponseParserError"),
        (_ambient, _small, "{}", "S3 upload failed: its answer has no AccessKeyId"),
        (_ambient, _small, '{"AccessKeyId": "a"}', "S3 upload failed: its answer has no SecretAccessKey"),
        (_azure, _small, "", "Azure upload failed: Unable to extract metadata from headers: ETag Header"),
        (_azure, _size, "", "Azure upload failed: Last-Modified Header missing from response"),
        (_gcp, _small, "", "GCP upload failed: Unable to extract metadata from headers: ETag Header"),
        (_gcp, _big, "", "GCP upload failed: Got invalid put response"),
        (_gcp, _changed, "", "GCP upload failed: Last-Modified Header missing from response"),
    ],
)
async def test_answers_without_what_they_need(
    connect: Callable[[str], Any],
    call: Callable[[Any, Path], Awaitable[Any]],
    body: str,
    why: str,
    bare: BareStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{bare.url}/identity")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    bare.body = body.encode()
    bucket = connect(bare.url)
    with pytest.raises(EgressError) as caught:
        await call(bucket, tmp_path)
    await bucket.close()
    assert why in str(caught.value)
    assert not any("uploadId=" in path and "uploadId=7" not in path for path in bare.paths)
