"""One suite over every storage, each on a real server: what is put is there, whole, under its name and type,
at the location clients expect; what is wrong is said in the storage's words, and no secret with it."""

import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    Proxy,
    S3Storage,
    StoragePlan,
)
from openegress.storage import Storage, open_storage
from openegress.storage.uploader import Uploader
from testkit.gcs_double import GcsDouble
from testkit.servers import AuthProxy, Azurite, S3Server, Versity, fetch

BUCKET = "recordings"


@dataclass
class Case:
    """A storage under test, and a way to look into it that is not ours."""

    backend: Backend
    location: str
    """Of key "d/a.mp4"."""
    read: Callable[[str], tuple[bytes, str]]
    """Key to content and content type; raises when there is none."""
    wrong_bucket: Backend | None = None
    wrong_bucket_words: str = ""
    wrong_key: Backend | None = None
    wrong_key_words: str = ""
    secrets: list[str] = field(default_factory=list)
    presigns: bool = True
    fetch: Callable[[str], tuple[int, bytes]] = fetch
    """GET of a presigned URL."""
    types: bool = True
    """Keeps content types."""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def strict_s3() -> Iterator[S3Server]:
    with S3Server(enforce=True) as server:
        server.create_bucket(BUCKET)
        trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",'
        trust += '"Principal":{"AWS":"*"},"Condition":{"StringEquals":{"sts:ExternalId":"customer-7"}}}]}'
        iam = server.client("iam")
        iam.create_role(RoleName="recorder", AssumeRolePolicyDocument=trust)
        everything = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
        )
        iam.put_role_policy(RoleName="recorder", PolicyName="all", PolicyDocument=everything)
        yield server


@pytest.fixture(scope="module")
def proxy() -> Iterator[AuthProxy]:
    with AuthProxy() as server:
        yield server


@pytest.fixture(scope="module")
def versity() -> Iterator[Versity]:
    with Versity() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with Azurite() as server:
        server.create_container(BUCKET)
        yield server


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsDouble]:
    with GcsDouble() as server:
        server.create_bucket(BUCKET)
        yield server


def local_case(request: pytest.FixtureRequest) -> Case:
    root = cast(Path, request.getfixturevalue("tmp_path")) / "out"
    return Case(
        backend=LocalStorage(root=str(root)),
        location=str(root / "d/a.mp4"),
        read=lambda key: ((root / key).read_bytes(), ""),
        presigns=False,
        types=False,
    )


def s3_reader(server: S3Server | Versity) -> Callable[[str], tuple[bytes, str]]:
    def read(key: str) -> tuple[bytes, str]:
        found = server.client().get_object(Bucket=BUCKET, Key=key)
        return found["Body"].read(), found["ContentType"]

    return read


def s3_like(server: S3Server | Versity, **role: Any) -> Case:
    backend = S3Storage(
        bucket=BUCKET, access_key=server.access_key, secret=server.secret, endpoint=server.url, **role
    )
    return Case(
        backend=backend,
        location=f"{server.url}/{BUCKET}/d/a.mp4",
        read=s3_reader(server),
        wrong_bucket=msgspec.structs.replace(backend, bucket="nowhere"),
        wrong_bucket_words="NoSuchBucket",
        wrong_key=msgspec.structs.replace(backend, secret="not-the-secret"),
        wrong_key_words="SignatureDoesNotMatch",
        secrets=[server.secret, "not-the-secret"],
    )


def s3_case(request: pytest.FixtureRequest) -> Case:
    server = cast(S3Server, request.getfixturevalue("strict_s3"))
    return replace(s3_like(server), fetch=server.fetch)


def versity_case(request: pytest.FixtureRequest) -> Case:
    return s3_like(cast(Versity, request.getfixturevalue("versity")))


def s3_proxied_case(request: pytest.FixtureRequest) -> Case:
    server = cast(S3Server, request.getfixturevalue("s3"))
    through = cast(AuthProxy, request.getfixturevalue("proxy"))
    proxy = Proxy(url=through.url, username=through.username, password=through.password)
    backend = S3Storage(
        bucket=BUCKET,
        access_key="key",
        secret="the-secret",
        endpoint=server.url,
        region="eu-west-1",
        force_path_style=True,
        proxy=proxy,
    )
    return Case(
        backend=backend,
        location=f"{server.url}/{BUCKET}/d/a.mp4",
        read=s3_reader(server),
        wrong_key=msgspec.structs.replace(
            backend, proxy=Proxy(url=through.url, username=through.username, password="wrong-password")
        ),
        wrong_key_words="check the proxy's username and password",
        secrets=[through.password, "wrong-password", "the-secret"],
        fetch=server.fetch,
    )


def assumed_role_case(request: pytest.FixtureRequest) -> Case:
    server = cast(S3Server, request.getfixturevalue("strict_s3"))
    role = {"assume_role_arn": server.role_arn, "assume_role_external_id": "customer-7"}
    return replace(s3_like(server, **role), fetch=server.fetch)


def azure_reader(server: Azurite) -> Callable[[str], tuple[bytes, str]]:
    def read(key: str) -> tuple[bytes, str]:
        body, headers = server.request("GET", f"{BUCKET}/{key}")
        return body, headers["content-type"]

    return read


def azure_case(request: pytest.FixtureRequest) -> Case:
    server = cast(Azurite, request.getfixturevalue("azurite"))
    backend = AzureStorage(
        container=BUCKET, account_name=server.account, account_key=server.key, endpoint=server.endpoint
    )
    wrong = "bm90LXRoZS1rZXktYXQtYWxs"
    return Case(
        backend=backend,
        location=f"{server.endpoint}/{BUCKET}/d/a.mp4",
        read=azure_reader(server),
        wrong_bucket=msgspec.structs.replace(backend, container="nowhere"),
        wrong_bucket_words="ContainerNotFound",
        wrong_key=msgspec.structs.replace(backend, account_key=wrong),
        wrong_key_words="AuthorizationFailure",
        secrets=[server.key, wrong],
    )


def azure_sas_case(request: pytest.FixtureRequest) -> Case:
    server = cast(Azurite, request.getfixturevalue("azurite"))
    good, bad = server.sas(BUCKET), server.sas(BUCKET, expires="2001-01-01T00:00:00Z")
    backend = AzureStorage(
        container=BUCKET, account_name=server.account, sas_token=f"?{good}", endpoint=server.endpoint
    )
    return Case(
        backend=backend,
        location=f"{server.endpoint}/{BUCKET}/d/a.mp4",
        read=azure_reader(server),
        wrong_key=msgspec.structs.replace(backend, sas_token=bad),
        wrong_key_words="AuthorizationFailure",
        secrets=[good, bad, good.rpartition("sig=")[2], bad.rpartition("sig=")[2]],
        presigns=False,
    )


def gcp_case(request: pytest.FixtureRequest) -> Case:
    server = cast(GcsDouble, request.getfixturevalue("gcs"))
    credentials = server.credentials()
    backend = GCPStorage(bucket=BUCKET, credentials=credentials)
    objects = server.buckets[BUCKET]
    return Case(
        backend=backend,
        location=f"https://{BUCKET}.storage.googleapis.com/d/a.mp4",
        read=lambda key: (objects[key].data, objects[key].headers["Content-Type"]),
        wrong_bucket=msgspec.structs.replace(backend, bucket="nowhere"),
        wrong_bucket_words="NoSuchBucket",
        wrong_key=msgspec.structs.replace(backend, credentials=server.credentials(stranger=True)),
        wrong_key_words="AuthenticationRequired",
        secrets=[credentials, "PRIVATE KEY"],
    )


def gcp_proxied_case(request: pytest.FixtureRequest) -> Case:
    through = cast(AuthProxy, request.getfixturevalue("proxy"))
    case = gcp_case(request)
    assert isinstance(case.backend, GCPStorage)
    proxy = Proxy(url=through.url, username=through.username, password=through.password)
    wrong = Proxy(url=through.url, username=through.username, password="wrong-password")
    return replace(
        case,
        backend=msgspec.structs.replace(case.backend, proxy=proxy),
        wrong_key=msgspec.structs.replace(case.backend, proxy=wrong),
        wrong_key_words="check the proxy's username and password",
        secrets=[*case.secrets, through.password, "wrong-password"],
    )


def alioss_case(request: pytest.FixtureRequest) -> Case:
    server = cast(S3Server, request.getfixturevalue("strict_s3"))
    backend = AliOSSStorage(
        bucket=BUCKET,
        access_key=server.access_key,
        secret=server.secret,
        region="ap-southeast-1",
        endpoint=server.url,
    )
    return Case(
        backend=backend,
        location=f"{server.url}/{BUCKET}/d/a.mp4",
        read=s3_reader(server),
        wrong_bucket=msgspec.structs.replace(backend, bucket="nowhere"),
        wrong_bucket_words="NoSuchBucket",
        wrong_key=msgspec.structs.replace(backend, secret="not-the-secret"),
        wrong_key_words="SignatureDoesNotMatch",
        secrets=[server.secret, "not-the-secret"],
        fetch=server.fetch,
    )


CASES = {
    "local": local_case,
    "s3": s3_case,
    "s3 of versitygw": versity_case,
    "s3-proxy": s3_proxied_case,
    "s3-assumed-role": assumed_role_case,
    "azure": azure_case,
    "azure-sas": azure_sas_case,
    "gcp": gcp_case,
    "gcp-proxy": gcp_proxied_case,
    "alioss": alioss_case,
}


OF_A_REQUEST = " of a request"
"""Behind the gateway, which refuses nothing here."""


@pytest.fixture(params=[*CASES, *(name + OF_A_REQUEST for name in CASES if name != "local")])
def case(request: pytest.FixtureRequest) -> Case:
    name, of_a_request, _ = request.param.partition(OF_A_REQUEST)
    case = CASES[name](request)
    return guarded(case) if of_a_request else case


def guarded(case: Case) -> Case:
    def behind(backend: Backend | None) -> Backend | None:
        if backend is None or isinstance(backend, LocalStorage):
            return backend
        return msgspec.structs.replace(backend, deny_networks=())

    return replace(
        case,
        backend=cast(Backend, behind(case.backend)),
        wrong_bucket=behind(case.wrong_bucket),
        wrong_key=behind(case.wrong_key),
    )


Opens = Callable[[Backend], Awaitable[Storage]]


@pytest.fixture
async def opens() -> AsyncIterator[Opens]:
    """Opens storages, and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def open_one(backend: Backend) -> Storage:
            storage = await open_storage(backend)
            stack.push_async_callback(storage.close)
            return storage

        yield open_one


def written(folder: Path, size_bytes: int, name: str = "spooled.mp4") -> Path:
    path = folder / name
    path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    return path


@pytest.mark.parametrize("size_bytes", [0, 5, 20 * 1024 * 1024 + 1])
async def test_what_is_put_is_there(opens: Opens, case: Case, tmp_path: Path, size_bytes: int) -> None:
    storage = await opens(case.backend)
    local = written(tmp_path, size_bytes)
    await storage.put(local, "d/a.mp4", "video/mp4")
    data, content_type = case.read("d/a.mp4")
    assert hashlib.sha256(data).digest() == hashlib.sha256(local.read_bytes()).digest()
    assert content_type == ("video/mp4" if case.types else "")
    assert await storage.size("d/a.mp4") == size_bytes
    assert storage.location("d/a.mp4") == case.location


async def test_put_replaces(opens: Opens, case: Case, tmp_path: Path) -> None:
    storage = await opens(case.backend)
    await storage.put(written(tmp_path, 2000), "live.m3u8", "application/x-mpegurl")
    second = written(tmp_path, 900, "second")
    await storage.put(second, "live.m3u8", "application/x-mpegurl")
    assert case.read("live.m3u8")[0] == second.read_bytes()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("réunion {room_id} #1 50%25.mp4", "réunion {room_id} #1 50%25.mp4"),
        ("a+b&c=d?e~.mp4", "a+b&c=d?e~.mp4"),
        ("/lead/a.mp4", "lead/a.mp4"),
        ("d//e/./a.mp4", "d/e/a.mp4"),
    ],
)
async def test_names_arrive_as_they_are(
    opens: Opens, case: Case, tmp_path: Path, path: str, key: str
) -> None:
    storage = await opens(case.backend)
    local = written(tmp_path, 7)
    await storage.put(local, path, "video/mp4")
    assert case.read(key)[0] == local.read_bytes()
    assert await storage.size(path) == 7
    changed_s = await storage.changed_s(path)
    assert changed_s is not None and abs(changed_s - time.time()) < 60
    assert await storage.changed_s(f"{path}-elsewhere") is None
    assert await storage.read(path, 3, 4) == local.read_bytes()[3:7]
    with pytest.raises(EgressError) as missing:
        await storage.read(f"{path}-elsewhere", 0, 4)
    assert missing.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("path", ["", "..", "d/../../a.mp4"])
async def test_paths_that_lead_out_are_refused(opens: Opens, case: Case, tmp_path: Path, path: str) -> None:
    storage = await opens(case.backend)
    with pytest.raises(EgressError) as raised:
        await storage.put(written(tmp_path, 7), path, "video/mp4")
    assert raised.value.code is Code.INVALID_ARGUMENT


async def test_check_leaves_nothing(opens: Opens, case: Case) -> None:
    storage = await opens(case.backend)
    await storage.check("checked/a.mp4")
    with pytest.raises(Exception):  # noqa: B017 - each reader has its own
        case.read("checked/.openegress-write-check")


async def test_presigned_url_reads_without_credentials(case: Case, tmp_path: Path) -> None:
    plan = StoragePlan(backend=case.backend, presign=True)
    uploader = Uploader(plan)
    local = written(tmp_path, 4000)
    stored = await uploader.put(local, "d/presigned é.mp4", "video/mp4")
    await uploader.close()
    if case.presigns:
        assert case.fetch(stored.location) == (200, local.read_bytes())
        for secret in case.secrets:
            assert secret not in stored.location
    else:
        assert stored.location == case.location.replace("a.mp4", "presigned é.mp4")


async def test_wrong_bucket_is_the_callers(opens: Opens, case: Case, tmp_path: Path) -> None:
    backend = case.wrong_bucket or missing_root(tmp_path)
    await refuses(opens, backend, case.wrong_bucket_words or "Not a directory", case.secrets, tmp_path)


def missing_root(tmp_path: Path) -> Backend:
    (tmp_path / "file").write_bytes(b"")
    return LocalStorage(root=str(tmp_path / "file" / "below"))


async def test_wrong_key_is_the_callers(opens: Opens, case: Case, tmp_path: Path) -> None:
    backend = case.wrong_key or missing_root(tmp_path)
    await refuses(opens, backend, case.wrong_key_words or "Not a directory", case.secrets, tmp_path)


async def refuses(opens: Opens, backend: Backend, words: str, secrets: list[str], tmp_path: Path) -> None:
    storage = await opens(backend)
    local = written(tmp_path, 10)
    with pytest.raises(EgressError) as checked:
        await storage.check("d/a.mp4")
    with pytest.raises(EgressError) as put:
        await storage.put(local, "d/a.mp4", "video/mp4")
    assert checked.value.phase is Phase.STORAGE_CHECK
    assert put.value.phase is Phase.STORAGE_WRITE
    for error in (checked.value, put.value):
        assert words in error.message
        assert (error.fault, error.code) == (Fault.CALLER, Code.INVALID_ARGUMENT)
        for secret in secrets:
            assert secret not in repr(error) + str(error.__cause__) + str(error.__context__)
    assert local.exists()
