"""Checksums, encryption and storage classes as S3 is sent them, and stores that want them otherwise."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openegress.core.checksum import Checksum
from openegress.core.errors import EgressError, Fault
from openegress.core.storages import AliOSSStorage, GCPStorage, S3Storage
from openegress.storage import open_storage
from testkit.gcs_double import GcsDouble
from testkit.servers import Versity
from testkit.strict_s3 import StrictS3, knows_no_checksum, needs_checksum, needs_md5

SMALL_BYTES, LARGE_BYTES = 1_000, 13 * 1024 * 1024
"""One request, and three parts."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "small.mp4", tmp_path / "large.mp4"]
    for path, size_bytes in zip(found, (SMALL_BYTES, LARGE_BYTES), strict=True):
        path.write_bytes(bytes(range(250)) * (size_bytes // 250))
    return found


@pytest.fixture
def locked() -> Iterator[StrictS3]:
    with StrictS3(needs_checksum) as server:
        yield server


def at(server: StrictS3, **fields: Any) -> S3Storage:
    plain = S3Storage(
        bucket=server.bucket, access_key="key", secret="secret", endpoint=server.url, region="us-east-1"
    )
    return msgspec.structs.replace(plain, **fields)


async def store(backend: S3Storage, files: list[Path]) -> None:
    storage = await open_storage(backend)
    await storage.check("x.mp4")
    for path in files:
        await storage.put(path, path.name, "video/mp4")
        assert await storage.size(path.name) == path.stat().st_size
    await storage.close()


@pytest.mark.parametrize("checksum", [Checksum.CRC32, Checksum.SHA256, Checksum.MD5])
async def test_a_locked_bucket_takes_recordings(
    locked: StrictS3, files: list[Path], checksum: Checksum
) -> None:
    await store(at(locked, checksum=checksum), files)
    for path in files:
        body = locked.client().get_object(Bucket=locked.bucket, Key=path.name)["Body"].read()
        assert body == path.read_bytes()


@pytest.mark.parametrize(
    ("asked", "header", "element"),
    [
        ({}, "x-amz-checksum-crc32", "CRC32"),
        ({"checksum": Checksum.SHA256}, "x-amz-checksum-sha256", "SHA256"),
    ],
    ids=["default", "sha256"],
)
async def test_each_object_and_each_part_is_sent_with_its_own(
    files: list[Path], asked: dict[str, Any], header: str, element: str
) -> None:
    """As a store needs them to check the object, the parts, and that the object is those parts."""
    with StrictS3(needs_checksum) as server:
        await store(at(server, **asked), files)
        sent = [headers for method, headers in server.seen if method == "PUT"]
        assert len(sent) == 2 + 3, "the check, an object and the parts of one"
        for headers in sent:
            assert [name for name in headers if "checksum" in name or "md5" in name] == [header]
            assert header in headers["authorization"], "signed"
        (begun,) = [headers for method, headers in server.seen if "x-amz-checksum-algorithm" in headers]
        assert begun["x-amz-checksum-algorithm"] == element
        parts = [headers[header] for headers in sent[2:]]
        (completed,) = server.completed
        named = dict(re.findall(rf"<PartNumber>(\d+)</PartNumber>.*?<Checksum{element}>(.*?)</", completed))
        assert sorted(named.values()) == sorted(parts) and named.keys() == {"1", "2", "3"}


@pytest.mark.parametrize("checksum", [Checksum.CRC32, Checksum.SHA256, Checksum.MD5])
async def test_a_store_that_wants_content_md5_is_sent_it(files: list[Path], checksum: Checksum) -> None:
    """One that knows no newer checksum, asked by the setting or by what it answers."""
    with StrictS3(needs_md5) as server:
        await store(at(server, checksum=checksum), files)
        puts = [headers for method, headers in server.seen if method == "PUT"]
        assert len([headers for headers in puts if "content-md5" not in headers]) == (
            checksum is not Checksum.MD5
        )
        for path in files:
            body = server.client().get_object(Bucket=server.bucket, Key=path.name)["Body"].read()
            assert body == path.read_bytes()


@pytest.mark.parametrize("checksum", Checksum)
async def test_a_real_store_checks_what_it_is_sent(files: list[Path], checksum: Checksum) -> None:
    with Versity() as server:
        server.create_bucket("recordings")
        backend = S3Storage(
            "recordings", server.access_key, server.secret, endpoint=server.url, checksum=checksum
        )
        await store(backend, files)
        for path in files:
            found = server.client().get_object(Bucket="recordings", Key=path.name, ChecksumMode="ENABLED")
            assert found["Body"].read() == path.read_bytes()
            kept = {name for name in found if name.startswith("Checksum") and name != "ChecksumType"}
            known = checksum in (Checksum.CRC32, Checksum.SHA256)
            wanted = {f"Checksum{checksum.name}"} if known else set()
            assert kept >= wanted


async def test_without_a_checksum_a_locked_bucket_says_why(locked: StrictS3, files: list[Path]) -> None:
    storage = await open_storage(at(locked, checksum=Checksum.NONE))
    with pytest.raises(EgressError, match="S3 upload failed: InvalidRequest") as e:
        await storage.check("x.mp4")
    assert e.value.fault is Fault.CALLER


async def test_a_store_that_knows_no_checksums_is_sent_none(files: list[Path]) -> None:
    with StrictS3(knows_no_checksum) as server:
        await store(at(server), files)
        refused = [
            headers for _, headers in server.seen if any("x-amz-checksum-" in name for name in headers)
        ]
        assert len(refused) == 1


async def test_none_is_none(files: list[Path]) -> None:
    with StrictS3(lambda request: None) as server:
        await store(at(server, checksum=Checksum.NONE), files)
        assert not [n for _, headers in server.seen for n in headers if "checksum" in n or "md5" in n]


async def test_encryption_and_class_go_with_the_object(files: list[Path]) -> None:
    with StrictS3(lambda request: None) as server:
        kms = {"server_side_encryption": "aws:kms", "sse_kms_key_id": "alias/recordings"}
        await store(at(server, storage_class="STANDARD_IA", **kms), files)
        for path in files:
            head = server.client().head_object(Bucket=server.bucket, Key=path.name)
            assert head["StorageClass"] == "STANDARD_IA"
        made = [headers for _, headers in server.seen if "x-amz-server-side-encryption" in headers]
        assert {headers["x-amz-server-side-encryption"] for headers in made} == {"aws:kms"}
        keys = {headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in made}
        assert keys == {"alias/recordings"}


async def test_metadata_in_any_script_arrives(files: list[Path]) -> None:
    with StrictS3(lambda request: None) as server:
        await store(at(server, metadata={"Room": "会议 Zürich"}), files)
        head = server.client().head_object(Bucket=server.bucket, Key="small.mp4")
        assert head["Metadata"] == {"room": "=?UTF-8?B?5Lya6K6uIFrDvHJpY2g=?="}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"access_key": "a\r\nX-Evil: b"}, "access_key"),
        ({"access_key": "schl\u00fcssel"}, "access_key"),
        ({"session_token": "a\nb"}, "session_token"),
        ({"storage_class": "COLD\n"}, "storage_class"),
    ],
)
async def test_what_no_header_takes(fields: dict[str, str], named: str) -> None:
    with StrictS3(lambda request: None) as server:
        with pytest.raises(EgressError, match=f"S3 {named} has a line break") as raised:
            await open_storage(at(server, **fields))
        assert raised.value.fault is Fault.CALLER and server.seen == []


async def test_a_bug_of_a_client_is_no_panic_of_ours(files: list[Path]) -> None:
    """Header values that nobody checked make obstore panic."""
    with GcsDouble() as server:
        server.create_bucket("recordings")
        storage = await open_storage(GCPStorage("recordings", credentials=server.credentials()))
        with pytest.raises(EgressError, match=r"the client of bucket 'recordings' .* failed"):
            await storage.put(files[0], "x.mp4", "video/\nmp4")


async def test_the_signature_covers_what_is_sent_to_oss(files: list[Path]) -> None:
    """OSS is sent no checksum: SigV4 holds the SHA-256 of the body, and refuses one that arrives damaged."""
    with StrictS3(lambda request: None) as server:
        storage = await open_storage(
            AliOSSStorage(server.bucket, access_key="key", secret="secret", endpoint=server.url)
        )
        await storage.put(files[0], "small.mp4", "video/mp4")
        await storage.close()
        (sent,) = [headers for method, headers in server.seen if method == "PUT"]
        assert sent["x-amz-content-sha256"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
        assert not [name for name in sent if "checksum" in name]
