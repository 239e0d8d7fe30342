"""Headers of S3 objects: what of a request can be one, and what S3 gets to see."""

import pytest
from livekit.protocol.egress import EncodedFileOutput, S3Upload

from openegress.core.errors import Code, EgressError
from openegress.request import destinations, object_headers


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"Room-Name": "a b"}, {"room-name": "a b"}),
        ({"note": "Zürich"}, {"note": "=?UTF-8?B?WsO8cmljaA==?="}),
        ({"note": "会议"}, {"note": "=?UTF-8?B?5Lya6K6u?="}),
        ({"a": ""}, {"a": ""}),
        ({"Cache-Control": "x"}, {"cache-control": "x"}),
    ],
)
def test_metadata(asked: dict[str, str], sent: dict[str, str]) -> None:
    assert object_headers.metadata(asked) == sent


@pytest.mark.parametrize("tagging", ["", "a=b", "a=b&c=", "team=a b&x=%2F", "k=v/w+x@y", "é=ü"])
def test_tags(tagging: str) -> None:
    assert len(object_headers.tags(tagging)) == tagging.count("=")


REFUSED = [
    ({"metadata": {"room name": "x"}}, "metadata 'room name'"),
    ({"metadata": {"": "x"}}, "metadata ''"),
    ({"metadata": {"räum": "x"}}, "metadata 'räum'"),
    ({"metadata": {"a:b": "x"}}, "metadata 'a:b'"),
    ({"metadata": {"note": "a\nb"}}, "metadata 'note'"),
    ({"metadata": {"note": "a\x00"}}, "metadata 'note'"),
    ({"metadata": {"note": " a"}}, "metadata 'note'"),
    ({"metadata": {"A": "1", "a": "2"}}, "given twice"),
    ({"metadata": {"a": "x" * 2048}}, r"metadata \(2049 bytes"),
    ({"tagging": "plain"}, "tagging .*not a query string"),
    ({"tagging": "a=b&a=c"}, "tagging .*twice"),
    ({"tagging": "&".join(f"k{n}=v" for n in range(11))}, "tagging .*11 tags"),
    ({"tagging": f"{'k' * 129}=v"}, "tagging"),
    ({"tagging": f"k={'v' * 257}"}, "tagging"),
    ({"tagging": "=v"}, "tagging"),
    ({"tagging": "k=%ff"}, "tagging"),
    ({"content_disposition": "attachment\r\nX-A: b"}, "content_disposition"),
    ({"content_disposition": 'attachment; filename="Zürich.mp4"'}, "content_disposition"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED)
def test_what_cannot_be_a_header_is_refused_at_the_start(fields: dict[str, str], named: str) -> None:
    upload = EncodedFileOutput(s3=S3Upload(bucket="b", **fields))  # type: ignore[arg-type]
    with pytest.raises(EgressError, match=named) as refused:
        destinations.of_upload(upload)
    assert refused.value.code is Code.INVALID_ARGUMENT
