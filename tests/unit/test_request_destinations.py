"""What the server adds to an upload that a request asks for."""

from typing import Any

import pytest
from livekit.protocol.egress import EncodedFileOutput, S3Upload

from openegress.core.errors import Code, EgressError
from openegress.core.storages import Backend, LocalStorage, S3Storage, StoragePlan
from openegress.request import destinations
from openegress.request.destinations import AssumeRole

SERVER = AssumeRole("SERVER", "server-secret", "arn:default", "server-id")
KEY_ONLY = AssumeRole("SERVER", "server-secret")
ROLE_ONLY = AssumeRole(arn="arn:default", external_id="server-id")


def chosen(upload: S3Upload, role: AssumeRole, server: Backend) -> S3Storage:
    output = EncodedFileOutput(s3=upload)
    plan = destinations.choose([output], StoragePlan(server), allow_local=False, assume_role=role)
    assert isinstance(plan.backend, S3Storage)
    return plan.backend


@pytest.mark.parametrize(
    ("asked", "role", "expected"),
    [
        ({}, AssumeRole(), ("", "", "", "")),
        ({}, KEY_ONLY, ("", "", "", "")),
        ({}, ROLE_ONLY, ("", "", "arn:default", "server-id")),
        ({}, SERVER, ("SERVER", "server-secret", "arn:default", "server-id")),
        # An external id is a secret between a role's owner and who takes it on: not for another's role.
        ({"assume_role_arn": "arn:r"}, SERVER, ("SERVER", "server-secret", "arn:r", "")),
        (
            {"assume_role_arn": "arn:r", "assume_role_external_id": "x"},
            KEY_ONLY,
            ("SERVER", "server-secret", "arn:r", "x"),
        ),
        (
            {"assume_role_arn": "arn:r", "access_key": "K", "secret": "S"},
            SERVER,
            ("K", "S", "arn:r", ""),
        ),
        ({"access_key": "K", "secret": "S"}, KEY_ONLY, ("K", "S", "", "")),
        ({"access_key": "K", "secret": "S"}, SERVER, ("K", "S", "arn:default", "server-id")),
    ],
)
def test_roles(asked: dict[str, Any], role: AssumeRole, expected: tuple[str, str, str, str]) -> None:
    backend = chosen(S3Upload(bucket="b", **asked), role, LocalStorage("/out"))
    given = (backend.access_key, backend.secret, backend.assume_role_arn, backend.assume_role_external_id)
    assert given == expected


@pytest.mark.parametrize("role", [AssumeRole(), ROLE_ONLY])
def test_nobody_has_the_servers_own_identity_take_on_a_role(role: AssumeRole) -> None:
    with pytest.raises(EgressError, match=r"^S3 upload using AssumeRole is disabled") as caught:
        chosen(S3Upload(bucket="b", assume_role_arn="arn:r"), role, LocalStorage("/out"))
    assert caught.value.code is Code.PERMISSION_DENIED


def test_the_servers_own_bucket_is_left_alone() -> None:
    server = StoragePlan(S3Storage("b"))
    assert destinations.choose([], server, allow_local=False, assume_role=SERVER) == server


def test_how_often_s3_is_tried_again_is_the_servers_affair() -> None:
    server = S3Storage("b", max_retries=9, min_retry_delay_s=1, max_retry_delay_s=8)
    backend = chosen(S3Upload(bucket="own"), AssumeRole(), server)
    assert (backend.max_retries, backend.min_retry_delay_s, backend.max_retry_delay_s) == (9, 1, 8)


OURS = S3Storage("ours")


def spare_prefix(upload: S3Upload, server: Backend = OURS, prefix: str = "late/") -> str:
    plan = StoragePlan(server, backup=LocalStorage("/spare"), backup_prefix=prefix)
    output = EncodedFileOutput(s3=upload)
    return destinations.choose([output], plan, allow_local=False).backup_prefix


KEYS: dict[str, Any] = {"access_key": "K", "secret": "S"}


def test_equal_paths_of_two_buckets_are_two_paths_in_the_backup() -> None:
    one = spare_prefix(S3Upload(bucket="one", **KEYS))
    two = spare_prefix(S3Upload(bucket="two", **KEYS))
    elsewhere = spare_prefix(S3Upload(bucket="one", endpoint="https://store.test", **KEYS))
    assert one.startswith("late/one-")
    assert len({one, two, elsewhere}) == 3


def test_one_bucket_has_one_folder_in_the_backup_whoever_names_it() -> None:
    plain = spare_prefix(S3Upload(bucket="one", endpoint="https://store.test", **KEYS))
    other_words = spare_prefix(
        S3Upload(bucket="one", endpoint="https://STORE.test:443/", access_key="L", secret="T")
    )
    assert plain == other_words


def test_the_servers_own_bucket_has_the_backup_as_it_is_configured() -> None:
    assert spare_prefix(S3Upload(bucket="ours", **KEYS)) == "late/"


def test_a_backup_without_a_prefix_has_the_folder_at_its_root() -> None:
    prefix = spare_prefix(S3Upload(bucket="tenant:x", **KEYS), LocalStorage("/out"), prefix="")
    assert prefix.startswith("tenant_x-")
    assert "/" not in prefix
