"""No secret of a request is shown, wherever in it the secret stands."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from livekit.protocol.egress import (
    EgressInfo,
    ExportReplayRequest,
    ListEgressResponse,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    UpdateStreamRequest,
    WebEgressRequest,
)
from livekit.protocol.models import WebhookConfig

from openegress.request import redact
from openegress.request.redact import redacted

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


@pytest.mark.parametrize(
    ("url", "is_hidden"),
    [
        ("https://user:SECRET@h/hook", True),
        ("https://h/hook?token=SECRET", True),
        ("https://h/hook#SECRET=SECRET", True),
        ("https://h/T000/B000/SECRET=SECRET", True),
        ("https://h/hook", True),
        ("https://h/", False),
    ],
)
def test_of_webhooks_nobody_sees_credentials_but_who_delivers_them(url: str, is_hidden: bool) -> None:
    info = EgressInfo(web=WebEgressRequest(url="http://e", webhooks=[WebhookConfig(url=url)]))
    whole = ListEgressResponse(items=[info])
    seen = redact.shown(whole)
    assert (seen is whole) is not is_hidden
    assert "SECRET=S" not in str(seen) and ":SECRET" not in str(seen) and "=SECRET" not in str(seen)
    assert whole.items[0].web.webhooks[0].url == url


BODIES = (
    RoomCompositeEgressRequest,
    WebEgressRequest,
    ParticipantEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    StartEgressRequest,
    ExportReplayRequest,
    UpdateStreamRequest,
)
SHOWN = {
    # Who and what is recorded, and how it is laid out.
    *("AudioRoute.participant_identity", "AudioRoute.track_id", "MediaSource.video_track_id"),
    *("ParticipantEgressRequest.identity", "ParticipantEgressRequest.room_name", "ParticipantVideo.identity"),
    *("RoomCompositeEgressRequest.layout", "RoomCompositeEgressRequest.room_name", "TemplateSource.layout"),
    *("TrackCompositeEgressRequest.audio_track_id", "TrackCompositeEgressRequest.video_track_id"),
    *("TrackCompositeEgressRequest.room_name", "TrackEgressRequest.room_name", "TrackEgressRequest.track_id"),
    *("StartEgressRequest.room_name", "ExportReplayRequest.replay_id", "UpdateStreamRequest.egress_id"),
    # A page is shown by its path; core.shown_url says what of it is not.
    *("WebEgressRequest.url", "WebSource.url"),
    *("RoomCompositeEgressRequest.custom_base_url", "TemplateSource.custom_base_url"),
    # Names of what is stored, and where.
    *("DirectFileOutput.filepath", "EncodedFileOutput.filepath", "FileOutput.filepath"),
    *("ImageOutput.filename_prefix", "SegmentedFileOutput.filename_prefix", "StreamDestination.id"),
    *("SegmentedFileOutput.playlist_name", "SegmentedFileOutput.live_playlist_name"),
    *("S3Upload.bucket", "S3Upload.region", "S3Upload.endpoint", "S3Upload.assume_role_arn"),
    *("S3Upload.metadata", "S3Upload.tagging", "S3Upload.content_disposition"),
    *("AliOSSUpload.bucket", "AliOSSUpload.region", "AliOSSUpload.endpoint"),
    *("AzureBlobUpload.container_name", "GCPUpload.bucket"),
    # The name of a key; a URL that `shown` hides for all but who delivers to it.
    *("WebhookConfig.signing_key", "WebhookConfig.url"),
    *("FilterParams.include_events", "FilterParams.exclude_events"),
}
"""Fields of text that hold no secret, by message."""
SECRET_URL = "rtmps://user:SECRETpassword@host/app/xSECRETkeyz?token=SECRETtoken"


def with_one(kind: type[Any], path: Sequence[Any]) -> Any:
    """A message in which nothing but the text at the end of `path` is set."""
    message = part = kind()
    for field in path[:-1]:
        value = getattr(part, field.name)
        part = value.add() if field.label == FieldDescriptor.LABEL_REPEATED else value
        part.SetInParent()
    last = path[-1]
    if last.message_type is not None:  # a map of texts
        getattr(part, last.name)["key"] = SECRET_URL
    elif last.label == FieldDescriptor.LABEL_REPEATED:
        getattr(part, last.name).append(SECRET_URL)
    else:
        setattr(part, last.name, SECRET_URL)
    return message


def texts(kind: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every field below that holds text."""
    for field in kind.fields:
        path = (*before, field)
        inner = field.message_type
        if field.type == FieldDescriptor.TYPE_STRING or (inner and inner.GetOptions().map_entry):
            yield path
        elif inner is not None:
            yield from texts(inner, path)


def test_every_text_of_a_request_is_hidden_or_known_to_hold_no_secret() -> None:
    """A field that a later protocol brings is neither, and has to be decided upon."""
    found: set[str] = set()
    for kind in BODIES:
        for path in texts(kind.DESCRIPTOR):
            if "SECRET" in str(redacted(with_one(kind, path))):
                found.add(f"{path[-1].containing_type.name}.{path[-1].name}")
    assert found == SHOWN
