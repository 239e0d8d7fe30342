"""What of a request has no effect, and what is done otherwise than asked, is told: the exact texts."""

from typing import Any

import pytest
from google.protobuf import json_format

from openegress.core.plan import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.context import Context
from openegress.request.validate import plan_of

ROOM: dict[str, Any] = {"room_name": "r"}
WEB: dict[str, Any] = {"url": "http://e"}
FILE: dict[str, Any] = {"file_outputs": [{"filepath": "x"}]}
IMAGES: dict[str, Any] = {"image_outputs": [{"filename_prefix": "x"}]}
V2_FILE: dict[str, Any] = {"outputs": [{"file": {"filepath": "x"}}]}
TO_WEBSOCKET: dict[str, Any] = {"outputs": [{"stream": {"urls": ["ws://h"]}}]}
STREAM: dict[str, Any] = {"stream_outputs": [{"urls": ["rtmp://h/a/k"]}]}
TEMPLATE: dict[str, Any] = ROOM | {"template": {}}
S3: dict[str, Any] = {"bucket": "b", "access_key": "a", "secret": "s"}
NO_PICTURE, NO_SOUND = "has no effect: no picture is recorded", "has no effect: no sound is recorded"
TOLD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("room_composite", ROOM | FILE | {"layout": "speaker", "preset": 1}, []),
    (
        "room_composite",
        ROOM | FILE | {"audio_only": True, "layout": "speaker", "preset": "H264_1080P_30"},
        [f"preset {NO_PICTURE}", f"layout {NO_PICTURE}"],
    ),
    ("room_composite", ROOM | FILE | {"audio_only": True}, []),
    (
        "room_composite",
        ROOM | FILE | {"audio_only": True, "layout": "own", "custom_base_url": "https://t.example"},
        [],
    ),
    (
        "room_composite",
        ROOM | FILE | {"video_only": True, "audio_mixing": 1},
        [f"audio_mixing {NO_SOUND}"],
    ),
    ("room_composite", ROOM | IMAGES | {"audio_mixing": 1}, [f"audio_mixing {NO_SOUND}"]),
    ("room_composite", ROOM | IMAGES, []),
    ("web", WEB | FILE | {"audio_only": True, "preset": 0}, [f"preset {NO_PICTURE}"]),
    (
        "web",
        WEB | FILE | {"audio_only": True, "advanced": {"width": 640, "depth": 8}},
        ["advanced.depth has no effect", f"advanced.width {NO_PICTURE}"],
    ),
    (
        "web",
        WEB | FILE | {"video_only": True, "advanced": {"audio_bitrate": 64}},
        [f"advanced.audio_bitrate {NO_SOUND}"],
    ),
    ("participant", ROOM | IMAGES | {"identity": "a"}, []),
    (
        "track_composite",
        ROOM | IMAGES | {"video_track_id": "V", "audio_track_id": "A"},
        [f"audio_track_id {NO_SOUND}"],
    ),
    ("track_composite", ROOM | IMAGES | {"video_track_id": "V"}, []),
    ("track_composite", ROOM | FILE | {"audio_track_id": "A", "preset": 1}, [f"preset {NO_PICTURE}"]),
    ("egress", ROOM | V2_FILE | {"template": {"audio_only": True, "layout": "g"}}, [f"layout {NO_PICTURE}"]),
    ("egress", ROOM | TO_WEBSOCKET | {"template": {"layout": "grid"}}, [f"layout {NO_PICTURE}"]),
    (
        "egress",
        ROOM | TO_WEBSOCKET | {"media": {"video_track_id": "V", "audio": {"capture_all": True}}},
        [f"media.video_track_id {NO_PICTURE}"],
    ),
    (
        "room_composite",
        ROOM | STREAM | FILE | {"advanced": {"audio_codec": "OPUS"}},
        ["advanced.audio_codec OPUS is encoded as AAC: a stream takes no OPUS"],
    ),
    ("room_composite", ROOM | STREAM | {"advanced": {"audio_codec": "AAC"}}, []),
    (
        "room_composite",
        ROOM | FILE | {"advanced": {"audio_codec": "OPUS", "audio_frequency": 16000}},
        ["advanced.audio_frequency has no effect: Opus always has 48000 Hz"],
    ),
    (
        "room_composite",
        ROOM | FILE | {"advanced": {"audio_codec": "OPUS", "audio_frequency": 48000}},
        [],
    ),
    (
        "room_composite",
        ROOM | IMAGES | {"advanced": {"width": 640, "video_bitrate": 500, "key_frame_interval": 2}},
        [
            f"advanced.{name} has no effect: images are JPEG"
            for name in ("video_bitrate", "key_frame_interval")
        ],
    ),
    (
        "egress",
        ROOM | TO_WEBSOCKET | {"template": {}, "advanced": {"audio_codec": "AC_MP3", "audio_bitrate": 64}},
        [
            f"advanced.{name} has no effect: sound goes to a WebSocket as it is"
            for name in ("audio_codec", "audio_bitrate")
        ],
    ),
    (
        "room_composite",
        ROOM | {"segment_outputs": [{"segment_duration": 4}], "advanced": {"key_frame_interval": 7}},
        ["advanced.key_frame_interval is 4 s and not 7 s: each segment begins with a key frame"],
    ),
    (
        "room_composite",
        ROOM | {"segment_outputs": [{"segment_duration": 4}], "advanced": {"key_frame_interval": 2}},
        [],
    ),
    ("room_composite", ROOM | STREAM | {"advanced": {"key_frame_interval": 7}}, []),
    (
        "egress",
        TEMPLATE | {"outputs": [{"segments": {"s3": S3}, "storage": {"s3": S3}}]},
        ["outputs.segments.s3 has no effect: outputs.storage is used"],
    ),
    (
        "egress",
        TEMPLATE
        | {"outputs": [{"file": {}, "storage": {"s3": S3}}, {"images": {"s3": S3}}], "storage": {"s3": S3}},
        ["storage has no effect: no output is stored there"],
    ),
    ("egress", TEMPLATE | {"outputs": [{"file": {}, "storage": {}}], "storage": {"s3": S3}}, []),
    (
        "egress",
        TEMPLATE
        | {"outputs": [{"file": {}}, {"stream": {"urls": ["rtmp://h/a/k"]}, "storage": {"s3": S3}}]}
        | {"storage": {"s3": S3}},
        ["outputs[1].storage has no effect: a stream is not stored"],
    ),
    (
        "egress",
        ROOM
        | {"outputs": [{"images": {}}]}
        | {"media": {"participant_video": {"identity": "a"}, "audio": {"capture_all": True}}},
        [f"media.audio {NO_SOUND}"],
    ),
]


def told(kind: str, body: dict[str, Any]) -> list[str]:
    context = Context(1, StoragePlan(LocalStorage("/out")), ws_url="ws://h", make_token=lambda *_: "T")
    request = json_format.ParseDict({"egress_id": "EG_1", kind: body}, StartEgressRequest())
    return list(plan_of(request, context).notices)


@pytest.mark.parametrize(("kind", "body", "notices"), TOLD)
def test_what_has_no_effect(kind: str, body: dict[str, Any], notices: list[str]) -> None:
    assert told(kind, body) == notices


@pytest.mark.parametrize(
    ("asked", "more", "kind"),
    [
        ("x.mp3", {"audio_only": True}, "OGG"),
        ("x.MP4", {"audio_only": True}, "OGG"),
        ("x.ogg", {}, "MP4"),
        ("x.mkv", {}, "MP4"),
        ("a.mp3/x.m3u8", {}, "MP4"),
        ("x.mp4", {}, ""),
        ("x.MP4", {}, ""),
        ("x.ogg", {"audio_only": True}, ""),
        ("v1.2", {}, ""),
        (".ogg", {}, ""),
        ("x.ogg/", {}, ""),
    ],
)
def test_a_path_that_ends_as_another_kind_of_file(asked: str, more: dict[str, Any], kind: str) -> None:
    ending = asked.rpartition(".")[2].lower()
    text = f"filepath ends in .{ending}, and the file is {kind}: its name ends in .{kind.lower()}"
    assert told("web", WEB | more | {"file_outputs": [{"filepath": asked}]}) == ([text] if kind else [])
