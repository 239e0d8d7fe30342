"""Names of a request's storage: none leads to another host, and who the server is goes to AWS alone."""

from typing import Any

import pytest
from livekit.protocol.egress import EncodedFileOutput

from openegress.core.errors import Code, EgressError
from openegress.core.storages import AliOSSStorage, LocalStorage, S3Storage, StoragePlan
from openegress.request import destinations
from openegress.request.destinations import AssumeRole

LOCAL = StoragePlan(LocalStorage("/out"))
KEYS = {"access_key": "a", "secret": "s"}
NO_ROLE = AssumeRole()
DENIED = ("10.0.0.0/8",)


def chosen(server: StoragePlan = LOCAL, role: AssumeRole = NO_ROLE, **upload: Any) -> StoragePlan:
    return destinations.choose(
        [EncodedFileOutput(**upload)], server, allow_local=True, assume_role=role, deny_networks=DENIED
    )


HOSTILE = [
    "evil.example/",
    "evil.example/#",
    "x@evil.example",
    "a?b",
    "a b",
    "a\\b",
    "a\nb",
    "../x",
    "a%2fb",
    "é",
]


@pytest.mark.parametrize("kind", ["s3", "aliOSS"])
@pytest.mark.parametrize(
    ("endpoint", "is_address"),
    [
        ("https://[2001:db8::1]:9000", True),
        ("HTTP://minio:9000/base/", True),
        ("minio", True),
        ("minio:99999", False),
        ("http://minio:0", False),
        ("http://minio:x", False),
        ("http://:9000", False),
        ("[::1", False),
    ],
)
def test_an_endpoint_is_an_address(kind: str, endpoint: str, is_address: bool) -> None:
    request: dict[str, Any] = {kind: {"bucket": "b", **KEYS, "endpoint": endpoint}}
    if is_address:
        backend = chosen(**request).backend
        assert isinstance(backend, S3Storage | AliOSSStorage)
        assert backend.endpoint == endpoint
        return
    with pytest.raises(EgressError, match=f"{kind} endpoint .* is not an address"):
        chosen(**request)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("kind", "field", "others"),
    [
        ("s3", "bucket", {}),
        ("s3", "region", {"bucket": "b"}),
        ("s3", "endpoint", {"bucket": "b", **KEYS}),
        ("gcp", "bucket", {}),
        ("azure", "account_name", {"container_name": "c"}),
        ("azure", "container_name", {"account_name": "name"}),
        ("aliOSS", "bucket", KEYS),
        ("aliOSS", "region", {"bucket": "b", **KEYS}),
    ],
)
def test_hostile_names(kind: str, field: str, others: dict[str, str], name: str) -> None:
    if field == "endpoint" and name in ("evil.example/", "../x"):
        return  # an address with a path, with keys of the caller
    with pytest.raises(EgressError) as refused:
        request: dict[str, Any] = {kind: {field: name, **others}}
        chosen(**request)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.message.startswith(f"{kind.lower() if kind != 'aliOSS' else kind} {field} ")
    assert len(refused.value.message.splitlines()) == 1


def test_nothing_is_shown_of_a_connection_string_in_place_of_an_account() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=ours;AccountKey=hunter2=="
    with pytest.raises(EgressError) as refused:
        chosen(azure={"account_name": text, "container_name": "c"})
    assert refused.value.message == (
        "azure account_name {Def...2==} does not have 3 to 24 small letters and digits"
    )


@pytest.mark.parametrize("name", ["ab", "a" * 25, "Abc", "a-c", "localhost:8443/", ""])
def test_azure_accounts(name: str) -> None:
    with pytest.raises(EgressError, match="account_name"):
        chosen(azure={"account_name": name, "container_name": "c"})


@pytest.mark.parametrize(
    "upload",
    [
        {"s3": {"bucket": "my.bucket-1_x", "region": "eu-central-1"}},
        {"s3": {"bucket": "tenant:bucket", "endpoint": "https://ceph.example:8443/s3", **KEYS}},
        {"s3": {"bucket": "b", "endpoint": "minio:9000", **KEYS}},
        {"s3": {"bucket": "b", "endpoint": "http://[::1]:9000", **KEYS}},
        {"gcp": {"bucket": "example.com"}},
        {"azure": {"account_name": "devstoreaccount1", "container_name": "$web"}},
        {"aliOSS": {"bucket": "b", "endpoint": "oss-cn-hangzhou.aliyuncs.com", **KEYS}},
    ],
)
def test_honest_names_are_taken_and_guarded(upload: dict[str, Any]) -> None:
    backend = chosen(**upload).backend
    assert not isinstance(backend, LocalStorage) and backend.deny_networks == DENIED


@pytest.mark.parametrize(
    ("endpoint", "may_know"),
    [
        ("", True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("s3.amazonaws.com", True),
        ("https://bucket.s3.us-east-1.amazonaws.com/", True),
        ("https://s3-fips.dualstack.us-east-1.amazonaws.com", True),
        ("https://bucket.vpce-1a-b.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("http://s3.eu-west-1.amazonaws.com", False),
        ("https://ec2-1-2-3-4.compute-1.amazonaws.com", False),
        ("https://s3.evil.example", False),
        ("https://s3.amazonaws.com.evil.example", False),
        ("https://s3.amazonaws.com:8443", False),
        ("https://evil.example/s3.amazonaws.com", False),
        ("https://minio.inside:9000", False),
    ],
)
def test_the_servers_identity_goes_to_aws_alone(endpoint: str, may_know: bool) -> None:
    bucket = {"bucket": "b", "endpoint": endpoint}
    role = AssumeRole(access_key="ours", secret="ours", arn="arn:ours", external_id="ours")
    uploads = [bucket, bucket | {"assume_role_arn": "arn:theirs"}]
    for upload in uploads:
        if may_know:
            chosen(role=role, s3=upload)
            continue
        with pytest.raises(EgressError) as refused:
            chosen(role=role, s3=upload)
        assert refused.value.code is Code.PERMISSION_DENIED
    with_keys = chosen(role=role, s3=bucket | KEYS).backend
    assert isinstance(with_keys, S3Storage)
    assert (with_keys.assume_role_external_id == "ours") is may_know


def test_it_goes_to_the_servers_own_storage_too() -> None:
    own = StoragePlan(S3Storage(bucket="own", endpoint="https://minio.inside:9000"))
    backend = chosen(own, s3={"bucket": "b", "endpoint": "https://minio.inside:9000"}).backend
    assert isinstance(backend, S3Storage) and not backend.access_key
