"""No secret of a request is shown, wherever in it the secret stands."""

from typing import Any

import pytest
from google.protobuf import json_format
from livekit.protocol.egress import (
    ExportReplayRequest,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    UpdateStreamRequest,
    WebEgressRequest,
)

from openegress.core.redact import redacted

S3 = {
    "access_key": "SECRET",
    "secret": "SECRET",
    "session_token": "SECRET",
    "assume_role_arn": "arn",
    "assume_role_external_id": "SECRET",
    "bucket": "b",
    "metadata": {"k": "v"},
    "proxy": {"url": "http://user:SECRET@proxy:3128", "username": "SECRET", "password": "SECRET"},
}
S3_SHOWN = {
    "access_key": "{access_key}",
    "secret": "{secret}",
    "session_token": "{session_token}",
    "assume_role_arn": "arn",
    "assume_role_external_id": "{external_id}",
    "bucket": "b",
    "metadata": {"k": "v"},
    "proxy": {"url": "http://{...}@proxy:3128", "username": "{username}", "password": "{password}"},
}
GCP = {"credentials": "SECRET", "bucket": "b"}
AZURE = {"account_name": "SECRET", "account_key": "SECRET", "container_name": "c"}
OSS = {"access_key": "SECRET", "secret": "SECRET", "bucket": "b"}
URLS = ["rtmp://h/app/xSECRETxyz", "mux://xSECRETxyz", "srt://h:1?passphrase=SECRET"]
ENCODED = {
    "file_outputs": [{"s3": S3}, {"gcp": GCP}],
    "stream_outputs": [{"urls": URLS}, {"destinations": [{"id": "i", "url": URLS[0]}]}],
    "segment_outputs": [{"azure": AZURE}, {"aliOSS": OSS}],
    "image_outputs": [{"s3": S3}, {"s3": S3}],
    "webhooks": [{"url": "http://hook", "signing_key": "key-name"}],
}
V2 = {
    "web": {"url": "http://page"},
    "outputs": [
        {"file": {"filepath": "x"}, "storage": {"s3": S3}},
        {"stream": {"urls": URLS}},
        {"segments": {"gcp": GCP}},
        {"images": {"azure": AZURE}, "storage": {"aliOSS": OSS}},
    ],
    "storage": {"azure": AZURE},
}
CASES: list[tuple[type[Any], dict[str, Any]]] = [
    (RoomCompositeEgressRequest, ENCODED | {"file": {"s3": S3}}),
    (RoomCompositeEgressRequest, {"stream": {"urls": URLS}}),
    (WebEgressRequest, ENCODED | {"segments": {"s3": S3}}),
    (ParticipantEgressRequest, ENCODED),
    (TrackCompositeEgressRequest, ENCODED | {"file": {"aliOSS": OSS}}),
    (TrackEgressRequest, {"file": {"s3": S3}}),
    (TrackEgressRequest, {"websocket_url": "wss://user:SECRET@h/p?token=SECRET"}),
    (StartEgressRequest, V2),
    (ExportReplayRequest, V2),
    (UpdateStreamRequest, {"add_output_urls": URLS, "remove_output_urls": URLS}),
]


@pytest.mark.parametrize(("kind", "body"), CASES)
def test_no_secret_is_left(kind: type[Any], body: dict[str, Any]) -> None:
    message = json_format.ParseDict(body, kind())
    before = message.SerializeToString()
    shown = redacted(message)
    assert "SECRET" in str(message)
    assert "SECRET" not in str(shown)
    assert message.SerializeToString() == before
    assert redacted(shown) == shown


def test_placeholders() -> None:
    message = json_format.ParseDict(ENCODED, RoomCompositeEgressRequest())
    shown = json_format.MessageToDict(redacted(message), preserving_proto_field_name=True)
    assert shown["file_outputs"] == [
        {"s3": S3_SHOWN},
        {"gcp": {"credentials": "{credentials}", "bucket": "b"}},
    ]
    assert shown["segment_outputs"] == [
        {
            "azure": {
                "account_name": "{account_name}",
                "account_key": "{account_key}",
                "container_name": "c",
            }
        },
        {"aliOSS": {"access_key": "{access_key}", "secret": "{secret}", "bucket": "b"}},
    ]
    assert shown["stream_outputs"][0]["urls"] == [
        "rtmp://h/app/{xSE...xyz}",
        "mux://{xSE...xyz}",
        "srt://h:1?passphrase={...}",
    ]
    assert shown["webhooks"] == [{"url": "http://hook", "signing_key": "key-name"}]


def test_empty_stays_empty() -> None:
    message = json_format.ParseDict({"file_outputs": [{"s3": {"bucket": "b"}}]}, WebEgressRequest())
    assert redacted(message) == message
