"""Where each storage's requests go and what its locations are called: upstream's strings."""

import asyncio
import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from openegress.core.errors import Code, EgressError
from openegress.core.shown_url import redact_endpoint
from openegress.core.storages import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    Proxy,
    S3Storage,
)
from openegress.request import object_headers
from openegress.storage import alioss, open_storage, s3
from openegress.storage.assume_role import sts_endpoint
from openegress.storage.azure import service_sas
from openegress.storage.s3_address import Address, address
from openegress.storage.traits import PART_BYTES, Retries, key_of, part_bytes, proxy_url

AZURE_KEY = "a2V5"

LOCATIONS: list[tuple[Backend, str]] = [
    (LocalStorage(root="/out"), "/out/d/a b.mp4"),
    (S3Storage(bucket="b"), "https://b.s3.amazonaws.com/d/a b.mp4"),
    (S3Storage(bucket="b", region="eu-west-1"), "https://b.s3.amazonaws.com/d/a b.mp4"),
    (S3Storage(bucket="b", force_path_style=True), "https://s3.amazonaws.com/b/d/a b.mp4"),
    (
        S3Storage(bucket="b", endpoint="https://minio.example.com", force_path_style=True),
        "https://minio.example.com/b/d/a b.mp4",
    ),
    (S3Storage(bucket="b", endpoint="http://minio:9000/"), "http://minio:9000/b/d/a b.mp4"),
    (S3Storage(bucket="b", endpoint="minio.example.com"), "https://minio.example.com/b/d/a b.mp4"),
    (S3Storage(bucket="b", endpoint="https://b.fsn1.example.com"), "https://b.fsn1.example.com/d/a b.mp4"),
    (
        S3Storage(bucket="b", endpoint="s3.eu-west-1.amazonaws.com"),
        "https://b.s3.eu-west-1.amazonaws.com/d/a b.mp4",
    ),
    (
        S3Storage(bucket="b", endpoint="https://cos.ap-guangzhou.myqcloud.com"),
        "https://b.cos.ap-guangzhou.myqcloud.com/d/a b.mp4",
    ),
    (GCPStorage(bucket="b"), "https://b.storage.googleapis.com/d/a b.mp4"),
    (
        AzureStorage(container="c", account_name="acc", account_key=AZURE_KEY),
        "https://acc.blob.core.windows.net/d/a b.mp4",
    ),
    (
        AzureStorage(
            container="c",
            account_name="acc",
            account_key=AZURE_KEY,
            endpoint="https://acc.blob.core.chinacloudapi.cn/",
        ),
        "https://acc.blob.core.chinacloudapi.cn/c/d/a b.mp4",
    ),
    (
        AliOSSStorage(bucket="b", access_key="k", secret="s", endpoint="oss-cn-hangzhou.aliyuncs.com"),
        "https://b.oss-cn-hangzhou.aliyuncs.com/d/a b.mp4",
    ),
    (
        AliOSSStorage(bucket="b", access_key="k", secret="s", region="cn-hangzhou"),
        "https://b.oss-cn-hangzhou.aliyuncs.com/d/a b.mp4",
    ),
]


@pytest.mark.parametrize(("backend", "location"), LOCATIONS)
async def test_location(backend: Backend, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    storage = await open_storage(backend)
    assert storage.location("d/a b.mp4") == location
    assert storage.location("d/a b.mp4") == storage.location(
        "/d//a b.mp4" if "root" not in str(backend) else location
    )


async def test_s3_is_tried_again_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Retries] = []
    monkeypatch.setattr(s3, "S3Traits", lambda store, headers, retries: given.append(retries))
    backend = S3Storage(bucket="b", max_retries=9, min_retry_delay_s=0.5, max_retry_delay_s=30)
    await open_storage(backend)
    (retries,) = given
    assert (retries.most, retries.min_delay_s, retries.max_delay_s, retries.within_s) == (9, 0.5, 30, 270)


async def test_an_ambient_identity_that_obstore_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text('{"type": "external_account", "audience": "very-secret"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    with pytest.raises(EgressError, match="workload identity federation") as raised:
        await open_storage(GCPStorage(bucket="b"))
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert "very-secret" not in raised.value.message


@pytest.mark.parametrize(
    ("bucket", "endpoint", "region", "path_style", "expected"),
    [
        ("b", "", "", False, ("https://b.s3.us-east-1.amazonaws.com", True)),
        ("b", "", "eu-west-1", False, ("https://b.s3.eu-west-1.amazonaws.com", True)),
        ("b", "", "cn-north-1", False, ("https://b.s3.cn-north-1.amazonaws.com.cn", True)),
        ("my.bucket", "", "eu-west-1", False, ("https://s3.eu-west-1.amazonaws.com", False)),
        ("b", "", "eu-west-1", True, ("https://s3.eu-west-1.amazonaws.com", False)),
        ("b", "http://127.0.0.1:9000", "", False, ("http://127.0.0.1:9000", False)),
        ("b", "https://b.host", "", False, ("https://b.host", True)),
        ("b", "https://b.host", "", True, ("https://b.host", False)),
        ("b", "https://host/s3/", "", False, ("https://host/s3", False)),
        ("b", "https://s3.amazonaws.com", "", False, ("https://b.s3.amazonaws.com", True)),
        ("my.bucket", "https://s3.amazonaws.com", "", False, ("https://s3.amazonaws.com", False)),
        ("b", "https://notamazonaws.com", "", False, ("https://notamazonaws.com", False)),
        ("b", "https://s3.oss-cn-x.aliyuncs.com", "", False, ("https://b.s3.oss-cn-x.aliyuncs.com", True)),
    ],
)
def test_address(
    bucket: str, endpoint: str, region: str, path_style: bool, expected: tuple[str, bool]
) -> None:
    found = address(bucket, endpoint, region, path_style)
    assert (found.endpoint, found.virtual_host) == expected


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://host", "https://", "http://:9000", "http://a b", "http://h:99999", "http://h:x", "http://h/?a=b"],
)
def test_bad_endpoints(endpoint: str) -> None:
    with pytest.raises(EgressError, match="is not an address") as raised:
        address("b", endpoint)
    assert repr(redact_endpoint(endpoint)) in raised.value.message


@pytest.mark.parametrize(
    ("endpoint", "region", "host", "signed_for", "location"),
    [
        (
            "oss-cn-hangzhou.aliyuncs.com",
            "",
            "https://b.s3.oss-cn-hangzhou.aliyuncs.com",
            "cn-hangzhou",
            "https://b.oss-cn-hangzhou.aliyuncs.com",
        ),
        (
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "",
            "https://b.s3.oss-cn-hangzhou-internal.aliyuncs.com",
            "cn-hangzhou",
            "https://b.oss-cn-hangzhou-internal.aliyuncs.com",
        ),
        (
            "",
            "oss-eu-central-1",
            "https://b.s3.oss-eu-central-1.aliyuncs.com",
            "eu-central-1",
            "https://b.oss-eu-central-1.aliyuncs.com",
        ),
        (
            "http://s3.oss-us-west-1.aliyuncs.com",
            "us-west-1",
            "http://b.s3.oss-us-west-1.aliyuncs.com",
            "us-west-1",
            "https://b.oss-us-west-1.aliyuncs.com",
        ),
        (
            "https://media.example.com",
            "cn-beijing",
            "https://media.example.com",
            "cn-beijing",
            "https://media.example.com/b",
        ),
    ],
)
def test_oss_bearings(endpoint: str, region: str, host: str, signed_for: str, location: str) -> None:
    found = alioss.oss_address("b", endpoint, region)
    assert isinstance(found.address, Address)
    assert (found.address.endpoint, found.region, found.location_base) == (host, signed_for, location)


@pytest.mark.parametrize(
    ("endpoint", "sts"),
    [
        ("", None),
        ("https://s3.eu-west-1.amazonaws.com", None),
        ("http://minio:9000/", "http://minio:9000"),
    ],
)
def test_where_roles_are_assumed(endpoint: str, sts: str | None) -> None:
    assert sts_endpoint(endpoint) == sts


BAD_BACKENDS: list[tuple[Backend, str]] = [
    (S3Storage(bucket=""), "bucket is empty"),
    (S3Storage(bucket="b", access_key="k"), "go together"),
    (S3Storage(bucket="b", secret="very-secret"), "go together"),
    (S3Storage(bucket="b", tagging="no tags"), "key=value&key2=value2"),
    (S3Storage(bucket="b", endpoint="http://"), "is not an address"),
    (S3Storage(bucket="b", proxy=Proxy(url="http://", password="very-secret")), "is not an HTTP proxy"),
    (S3Storage(bucket="b", proxy=Proxy(url="socks5://h:1")), "is not an HTTP proxy"),
    (GCPStorage(bucket=""), "bucket is empty"),
    (GCPStorage(bucket="b", credentials="very-secret"), "are not JSON"),
    (GCPStorage(bucket="b", credentials='["very-secret"]'), "type None"),
    (GCPStorage(bucket="b", credentials='{"type": "authorized_user"}'), "type 'authorized_user'"),
    (
        GCPStorage(bucket="b", credentials='{"type": "external_account"}'),
        "workload identity federation",
    ),
    (
        GCPStorage(
            bucket="b",
            credentials='{"private_key":"very-secret","private_key_id":"i","client_email":"e"}',
        ),
        "storage configuration",
    ),
    (AzureStorage(container=""), "container is empty"),
    (AzureStorage(container="c"), "account is empty"),
    (AzureStorage(container="c", account_name="a", account_key="very-secret!"), "is not base64"),
    (AliOSSStorage(bucket="b", access_key="k"), "needs access_key and secret"),
    (AliOSSStorage(bucket="b", access_key="k", secret="very-secret"), "needs an endpoint or a region"),
]


@pytest.mark.parametrize(("backend", "words"), BAD_BACKENDS)
async def test_fields_that_do_not_fit(backend: Backend, words: str) -> None:
    with pytest.raises(EgressError) as raised:
        await open_storage(backend)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert words in raised.value.message
    assert "very-secret" not in raised.value.message


@pytest.mark.parametrize(
    ("tagging", "tags"),
    [
        ("", {}),
        ("k=v", {"k": "v"}),
        ("k=v&k2=v+2&k3=a%26b&k4=", {"k": "v", "k2": "v 2", "k3": "a&b", "k4": ""}),
    ],
)
def test_tags(tagging: str, tags: dict[str, str]) -> None:
    assert object_headers.tags(tagging) == tags


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        (Proxy(url="http://p:3128"), "http://p:3128"),
        (Proxy(url="p:3128"), "http://p:3128"),
        (Proxy(url="http://p:3128", username="u", password="p@/:%"), "http://u:p%40%2F%3A%25@p:3128"),
        (Proxy(url="http://old:gone@p:3128", username="u", password="x"), "http://u:x@p:3128"),
    ],
)
def test_proxy_url(proxy: Proxy, url: str) -> None:
    assert proxy_url(proxy) == url


@pytest.mark.parametrize(
    ("path", "key"), [("a", "a"), ("/a//b/./c", "a/b/c"), ("a/", "a"), ("a b/é", "a b/é")]
)
def test_key(path: str, key: str) -> None:
    assert key_of(path) == key


@pytest.mark.parametrize(
    ("size_bytes", "parts_mib"), [(0, 6), (1 << 30, 6), (50 << 30, 6), (80 << 30, 10), (5 << 40, 583)]
)
def test_parts_grow_with_the_file(size_bytes: int, parts_mib: int) -> None:
    assert part_bytes(size_bytes) == parts_mib << 20
    assert part_bytes(size_bytes) >= PART_BYTES
    assert part_bytes(size_bytes) * 10_000 >= size_bytes


def test_presigned_s3_url_has_the_signature_aws_defines() -> None:
    """Signature Version 4 of a presigned GET, computed here by hand."""
    secret = "the-secret"

    async def presign() -> str:
        storage = await open_storage(
            S3Storage(bucket="bkt", access_key="k", secret=secret, region="eu-west-1")
        )
        return await storage.presign("d/a b.mp4", 604_800)

    url = urlsplit(asyncio.run(presign()))
    query = dict(parse_qsl(url.query))
    signature = query.pop("X-Amz-Signature")
    assert (url.hostname, query["X-Amz-Expires"]) == ("bkt.s3.eu-west-1.amazonaws.com", "604800")
    at = query["X-Amz-Date"]
    canonical = "\n".join(
        [
            "GET",
            url.path,
            urlencode(sorted(query.items())),
            f"host:{url.netloc}",
            "",
            "host",
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = f"{at[:8]}/eu-west-1/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert signature == key.hex()


def test_azure_sas_names_the_blob_and_the_time() -> None:
    query = dict(parse_qsl(service_sas("acc", AZURE_KEY, "c", "d/a b.mp4", 604_800, now_s=1_700_000_000)))
    signature = query.pop("sig")
    assert query == {
        "sv": "2021-12-02",
        "sr": "b",
        "sp": "r",
        "st": "2023-11-14T21:58:20Z",
        "se": "2023-11-21T22:13:20Z",
    }
    assert len(signature) == 44
