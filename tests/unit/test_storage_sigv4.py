"""Signatures: those of AWS' documentation, and AWS' own signer for all that can be asked."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import botocore.auth
import botocore.compat
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from openegress.storage import sigv4
from openegress.storage.sigv4 import Credentials, Scope

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AT_S = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_example_of_a_header() -> None:
    """Amazon S3 API Reference, "Example: PUT Object"."""
    body = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
    headers = sigv4.authorized(
        "PUT",
        sigv4.quoted_path("/test$file.text"),
        {},
        {
            "host": "examplebucket.s3.amazonaws.com",
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        body,
        EXAMPLE,
        Scope("us-east-1"),
        AT_S,
    )
    assert headers["authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_example_of_a_query() -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters"."""
    query = sigv4.presigned(
        "/test.txt", "examplebucket.s3.amazonaws.com", 86400, EXAMPLE, Scope("us-east-1"), AT_S
    )
    assert query.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.strip)


@given(
    path=NAMES,
    query=st.dictionaries(NAMES, NAMES, max_size=4),
    fields=st.dictionaries(st.from_regex(r"\Ax-amz-meta-[a-z0-9-]{1,20}\Z"), VALUES, max_size=4),
    token=st.sampled_from(["", "a/token+=="]),
)
def test_as_aws_own_signer(path: str, query: dict[str, str], fields: dict[str, str], token: str) -> None:
    signer = botocore.auth.S3SigV4Auth(BotoCredentials("AKID", "secret", token or None), "s3", "eu-west-1")
    quoted = sigv4.quoted_path(f"/bucket/{path}")
    url = f"https://store.example{quoted}" + (f"?{text}" if (text := sigv4.query_text(query)) else "")
    request: Any = AWSRequest("PUT", url, headers={"host": "store.example", **fields})
    request.context = {"client_config": SimpleNamespace(s3={"payload_signing_enabled": True})}
    signer.add_auth(request)
    at = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = sigv4.authorized(
        "PUT",
        quoted,
        query,
        {"host": "store.example", **fields},
        EMPTY,
        Credentials("AKID", "secret", token),
        Scope("eu-west-1"),
        at.timestamp(),
    )
    assert ours["authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("shown", [repr(Credentials("a", "very-secret", "t0ken"))])
def test_nothing_secret_is_shown(shown: str) -> None:
    assert "very-secret" not in shown and "t0ken" not in shown
