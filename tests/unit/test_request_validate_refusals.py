"""Requests that are refused: each with its exact code and text."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.errors import Code, EgressError
from openegress.core.plan import Plan
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.validate import Context, plan_of, request_kind

CONTEXT = Context(
    now_ns=1_739_527_024_816_835_412,
    storage=StoragePlan(backend=LocalStorage(root="/out")),
    ws_url="ws://livekit:7880",
    template_base="http://127.0.0.1:7980/",
    make_token=lambda egress_id, room: "T",
)
FILE: dict[str, Any] = {"file_outputs": [{}]}
ROOM = {"room_name": "demo"} | FILE
WEB = {"url": "http://example.com"} | FILE
V2_FILE: dict[str, Any] = {"outputs": [{"file": {}}]}
TWO_KINDS = "the track 'TR_1' is asked for as audio and as video, and is one of them"
RTMP_FORM = "rtmp urls must be of format rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)"


def refusal(kind: str, body: dict[str, Any], context: Context = CONTEXT, **outer: Any) -> EgressError:
    request = json_format.ParseDict({"egress_id": "EG_1", kind: body} | outer, StartEgressRequest())
    with pytest.raises(EgressError) as refused:
        plan_of(request, context)
    return refused.value


FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("room_composite", FILE, "room_name"),
    ("room_composite", ROOM | {"custom_base_url": "ftp://x"}, "template base url"),
    ("room_composite", ROOM | {"audio_only": True, "video_only": True}, "audio_only and video_only"),
    ("room_composite", {"room_name": "demo"}, "output"),
    ("room_composite", ROOM | {"preset": "PASSTHROUGH"}, "preset"),
    ("room_composite", ROOM | {"preset": 99}, "preset"),
    ("room_composite", ROOM | {"audio_only": True, "audio_mixing": 9}, "audio_mixing"),
    ("room_composite", {"room_name": "demo", "file_outputs": [{}, {}]}, "multiple file outputs"),
    (
        "room_composite",
        ROOM | {"stream_outputs": [{"protocol": 1}, {"protocol": 1}]},
        "multiple stream outputs",
    ),
    ("room_composite", ROOM | {"segment_outputs": [{}, {}]}, "multiple segmented file outputs"),
    (
        "room_composite",
        ROOM | {"file": {"filepath": "a"}, "file_outputs": [{"filepath": "b"}]},
        "multiple file outputs",
    ),
    (
        "room_composite",
        ROOM
        | {
            "stream_outputs": [
                {
                    "destinations": [
                        {"url": "rtmp://h/a/k", "id": "1"},
                        {"url": "RTMP://h/a/k", "id": "2"},
                    ]
                }
            ]
        },
        "stream url (rtmp://h/a/{...} is there twice, with two ids)",
    ),
    (
        "egress",
        {
            "room_name": "demo",
            "template": {},
            "outputs": [{"stream": {"urls": ["ws://h/"], "destinations": [{"url": "ws://h/", "id": "2"}]}}],
        },
        "stream url (ws://h/ is there twice, with two ids)",
    ),
    ("room_composite", ROOM | {"audio_only": True, "image_outputs": [{}]}, "audio_only images"),
    ("room_composite", ROOM | {"file_outputs": [{"file_type": 9}]}, "file_type"),
    ("room_composite", ROOM | {"segment_outputs": [{"filename_suffix": 9}]}, "filename_suffix"),
    ("room_composite", ROOM | {"segment_outputs": [{"protocol": 9}]}, "protocol"),
    ("room_composite", ROOM | {"image_outputs": [{"filename_suffix": 9}]}, "filename_suffix"),
    ("room_composite", ROOM | {"image_outputs": [{"image_codec": 9}]}, "image_codec"),
    ("room_composite", ROOM | {"image_outputs": [{"width": -2}]}, "width"),
    ("room_composite", ROOM | {"stream_outputs": [{}]}, "stream protocol"),
    ("room_composite", ROOM | {"stream_outputs": [{"protocol": 9}]}, "stream protocol"),
    ("room_composite", ROOM | {"stream_outputs": [{"protocol": "WEBSOCKET"}]}, "stream protocol"),
    ("room_composite", ROOM | {"stream_outputs": [{"urls": ["ws://h"]}]}, "stream protocol"),
    ("room_composite", {"room_name": "demo", "stream_outputs": [{"protocol": "RTMP"}]}, "stream url"),
    (
        "room_composite",
        ROOM | {"segment_outputs": [{"playlist_name": "a/p", "live_playlist_name": "b/l"}]},
        "live_playlist_name must be in same directory as playlist_name",
    ),
    (
        "room_composite",
        ROOM | {"segment_outputs": [{"playlist_name": "p", "live_playlist_name": "p.m3u8"}]},
        "live_playlist_name cannot be identical to playlist_name",
    ),
    *(
        (
            "room_composite",
            ROOM | {"segment_outputs": [{"filename_prefix": "a/p", "live_playlist_name": live}]},
            f"live_playlist_name ({live!r} names a folder, and no file)",
        )
        for live in ("a/", "live/", ".", "a/..", "/")
    ),
    ("room_composite", {"room_name": "demo", "file_outputs": [{"s3": {}}]}, "s3 bucket"),
    (
        "room_composite",
        {"room_name": "demo", "file_outputs": [{"s3": {"bucket": "b", "assume_role_external_id": "x"}}]},
        "s3 assume_role_arn (there is an assume_role_external_id, and no role)",
    ),
    *(
        (
            "room_composite",
            ROOM | {"file_outputs": [{storage: {"bucket": "b", "proxy": {"url": url}}}]},
            f"proxy url ('{shown}' is not an HTTP proxy; write http://host:port)",
        )
        for storage in ("s3", "gcp")
        for url, shown in (
            ("socks5://u:p@h:1", "socks5://{...}@h:1"),
            ("h:1:2", "{...}"),
            ("http://", "http://"),
        )
    ),
    ("room_composite", {"room_name": "demo", "file_outputs": [{"gcp": {}}]}, "gcp bucket"),
    ("room_composite", {"room_name": "demo", "file_outputs": [{"azure": {}}]}, "azure container_name"),
    ("room_composite", {"room_name": "demo", "file_outputs": [{"aliOSS": {}}]}, "aliOSS bucket"),
    ("web", FILE, "web url"),
    ("web", WEB | {"url": "file:///etc/passwd"}, "web url"),
    ("web", WEB | {"url": "http://"}, "web url"),
    ("web", WEB | {"url": "http://[::1"}, "web url"),
    ("web", WEB | {"url": "https://ex ample/"}, "web url"),
    ("web", WEB | {"url": "https://x:99999/"}, "web url"),
    ("web", WEB | {"audio_only": True, "video_only": True}, "audio_only and video_only"),
    ("participant", ROOM, "identity"),
    ("track_composite", ROOM, "audio_track_id or video_track_id"),
    ("track", {"room_name": "demo", "file": {}}, "track_id"),
    ("track", {"room_name": "demo", "track_id": "T"}, "output"),
    ("egress", {"room_name": "demo"} | V2_FILE, "source"),
    ("egress", {"room_name": "demo", "template": {}}, "output"),
    ("egress", {"room_name": "demo", "template": {}, "outputs": [{}]}, "output config"),
    (
        "egress",
        {
            "room_name": "demo",
            "template": {},
            "outputs": [{"file": {"filepath": "a"}}, {"file": {"filepath": "b"}}],
        },
        "multiple file outputs",
    ),
    (
        "egress",
        {
            "room_name": "demo",
            "template": {},
            "outputs": [
                {"stream": {"urls": ["rtmp://h/a/k"]}},
                {"stream": {"protocol": 3, "urls": ["ws://h/a"]}},
            ],
        },
        "multiple stream outputs",
    ),
    (
        "egress",
        {
            "room_name": "demo",
            "template": {},
            "outputs": [{"segments": {"filename_prefix": "a"}}, {"segments": {"filename_prefix": "b"}}],
        },
        "multiple segmented file outputs",
    ),
    ("egress", {"template": {}} | V2_FILE, "room_name"),
    ("egress", {"room_name": "demo", "media": {}} | V2_FILE, "audio or video"),
    ("egress", {"room_name": "demo", "media": {"participant_video": {}}} | V2_FILE, "identity"),
    ("egress", {"room_name": "demo", "media": {"video_track_id": ""}} | V2_FILE, "video_track_id"),
    (
        "egress",
        {"room_name": "demo", "media": {"audio": {"routes": [{}]}}} | V2_FILE,
        "audio route match",
    ),
    (
        "egress",
        {"room_name": "demo", "media": {"audio": {"routes": [{"track_id": "T", "channel": 9}]}}} | V2_FILE,
        "audio route channel",
    ),
    (
        "egress",
        {
            "web": {"url": "http://e.com", "video_only": True},
            "outputs": [{"stream": {"protocol": "WEBSOCKET", "urls": ["ws://h"]}}],
        },
        "video_only websocket",
    ),
    ("egress", {"web": {"url": "http://e.com"}, "preset": 8} | V2_FILE, "passthrough source"),
]

PASSTHROUGH: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"video_track_id": ""}, V2_FILE, "passthrough video_track_id"),
    ({"participant_video": {"identity": "a"}}, V2_FILE, "passthrough participant_video"),
    ({"audio": {"capture_all": True}}, V2_FILE, "passthrough capture_all"),
    ({"audio": {"routes": [{"track_id": "a"}, {"track_id": "b"}]}}, V2_FILE, "passthrough audio routes"),
    ({"audio": {"routes": [{"participant_identity": "a"}]}}, V2_FILE, "passthrough audio route match"),
    ({"audio": {"routes": [{"track_id": ""}]}}, V2_FILE, "passthrough audio route track_id"),
    ({}, V2_FILE, "passthrough track_id"),
    (
        {"video_track_id": "V", "audio": {"routes": [{"track_id": "A"}]}},
        V2_FILE,
        "passthrough track_id",
    ),
    ({"video_track_id": "V"}, {"outputs": [{"file": {}}, {"images": {}}]}, "passthrough outputs"),
    ({"video_track_id": "V"}, {"outputs": [{"segments": {}}]}, "passthrough output"),
    ({"video_track_id": "V"}, {"outputs": [{"file": {"file_type": "MP4"}}]}, "passthrough file_type"),
]

BOUNDS: list[tuple[dict[str, Any], str]] = [
    ({"width": 15}, "width"),
    ({"width": 14}, "width"),
    ({"width": 641}, "width"),
    ({"width": -640}, "width"),
    ({"width": 100_000}, "width (100000 is above the largest, 16384)"),
    ({"height": 359}, "height"),
    ({"height": 8}, "height"),
    ({"height": 2**31 - 2}, "height (2147483646 is above the largest, 16384)"),
    ({"width": 7680, "height": 7680}, "width (7680x7680 has more than 33177600 pixels)"),
    ({"depth": 12}, "depth"),
    ({"framerate": -1}, "framerate (-1 is outside 1..240)"),
    ({"framerate": 1000}, "framerate (1000 is outside 1..240)"),
    ({"audio_codec": 9}, "audio_codec"),
    ({"audio_bitrate": -1}, "audio_bitrate (-1 is outside 6..512)"),
    ({"audio_bitrate": 5000}, "audio_bitrate (5000 is outside 6..512)"),
    ({"audio_codec": "AC_MP3", "audio_bitrate": 400}, "audio_bitrate (400 is above MP3's largest, 320)"),
    (
        {"audio_codec": "AC_MP3", "audio_frequency": 96_000},
        "audio_frequency (96000 is above MP3's largest, 48000)",
    ),
    (
        {"audio_frequency": 44_000},
        "audio_frequency (44000 Hz is not one of 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, "
        "48000, 64000, 88200, 96000)",
    ),
    ({"video_codec": 9}, "video_codec"),
    ({"video_bitrate": -5}, "video_bitrate (-5 is outside 1..200000)"),
    ({"key_frame_interval": -1}, "key_frame_interval (-1.0 s is outside 0..86400)"),
    ({"key_frame_interval": "NaN"}, "key_frame_interval (nan s is outside 0..86400)"),
    ({"key_frame_interval": "Infinity"}, "key_frame_interval (inf s is outside 0..86400)"),
]


def _is_field(error: EgressError, field: str) -> None:
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == f"request has missing or invalid field: {field}"


@pytest.mark.parametrize(("kind", "body", "field"), FIELDS)
def test_fields(kind: str, body: dict[str, Any], field: str) -> None:
    _is_field(refusal(kind, body), field)


@pytest.mark.parametrize(("media", "rest", "field"), PASSTHROUGH)
def test_passthrough(media: dict[str, Any], rest: dict[str, Any], field: str) -> None:
    body = {"room_name": "demo", "media": media, "preset": "PASSTHROUGH"} | rest
    _is_field(refusal("egress", body), field)


@pytest.mark.parametrize(("advanced", "field"), BOUNDS)
def test_bounds(advanced: dict[str, Any], field: str) -> None:
    _is_field(refusal("web", WEB | {"advanced": advanced}), field)


def test_images_of_too_many_pixels() -> None:
    for asked, size in (({"width": 16_384}, "16384x9216"), ({"width": 7680, "height": 7680}, "7680x7680")):
        error = refusal("web", {"url": "http://a", "image_outputs": [asked]})
        _is_field(error, f"width ({size} has more than 33177600 pixels)")


def test_segments_longer_than_the_longest() -> None:
    body = WEB | {"segment_outputs": [{"segment_duration": 43_201}]}
    _is_field(refusal("web", body), "segment_duration (43201 s is above the longest, 43200)")


def test_no_id_and_no_request() -> None:
    with pytest.raises(EgressError) as refused:
        plan_of(StartEgressRequest(), CONTEXT)
    _is_field(refused.value, "egressID")
    with pytest.raises(EgressError) as refused:
        plan_of(StartEgressRequest(egress_id="EG_1"), CONTEXT)
    _is_field(refused.value, "request")


def test_the_server_lacks_credentials_or_url() -> None:
    _is_field(refusal("room_composite", ROOM, replace(CONTEXT, make_token=None)), "token or api key/secret")
    _is_field(refusal("room_composite", ROOM, replace(CONTEXT, ws_url="")), "ws_url")
    _is_field(refusal("room_composite", ROOM, replace(CONTEXT, template_base="x")), "template base url")


def test_local_storage_forbidden() -> None:
    _is_field(refusal("room_composite", ROOM, replace(CONTEXT, allow_local=False)), "output")


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (
            "room_composite",
            ROOM | {"file_outputs": [{"file_type": "OGG"}]},
            "no supported codec is compatible with all outputs",
        ),
        (
            "room_composite",
            ROOM
            | {
                "audio_only": True,
                "file_outputs": [{"file_type": "MP3"}],
                "segment_outputs": [{}],
                "advanced": {"audio_codec": "AAC"},
            },
            "format audio/mpeg incompatible with codec audio/aac",
        ),
        (
            "room_composite",
            ROOM | {"segment_outputs": [{}], "advanced": {"audio_codec": "OPUS"}},
            "format application/x-mpegurl incompatible with codec audio/opus",
        ),
        (
            "room_composite",
            ROOM
            | {
                "audio_only": True,
                "file_outputs": [{"file_type": "OGG"}],
                "stream_outputs": [{"urls": ["rtmp://h/a/k"]}],
            },
            "format audio/ogg incompatible with codec audio/aac",
        ),
        (
            "room_composite",
            ROOM | {"stream_outputs": [{"urls": ["http://h/a/k"]}]},
            "invalid url http://h/{...}: invalid protocol",
        ),
        (
            "room_composite",
            ROOM | {"stream_outputs": [{"urls": ["rtmp://h/a/k", "srt://h:1"]}]},
            "invalid url srt://h:1: invalid scheme",
        ),
        (
            "room_composite",
            ROOM | {"stream_outputs": [{"urls": ["rtmp://host/key"]}]},
            f"invalid url rtmp://host/{{k...y}}: {RTMP_FORM}",
        ),
        (
            "track",
            {"room_name": "demo", "track_id": "T", "websocket_url": "http://h"},
            "invalid url http://h: invalid scheme",
        ),
        (
            "room_composite",
            ROOM | {"file_outputs": [{"filepath": "/etc/x"}]},
            "filepath '/etc/x.mp4' lies outside the server's output_root, /out: "
            "give a relative path, or an absolute one below it",
        ),
        (
            "room_composite",
            ROOM | {"segment_outputs": [{"filename_prefix": "/etc/x"}]},
            "filename_prefix '/etc/' lies outside the server's output_root, /out: "
            "give a relative path, or an absolute one below it",
        ),
        ("track_composite", ROOM | {"audio_track_id": "TR_1", "video_track_id": "TR_1"}, TWO_KINDS),
        (
            "egress",
            {
                "room_name": "demo",
                "media": {"video_track_id": "TR_1", "audio": {"routes": [{"track_id": "TR_1"}]}},
            }
            | V2_FILE,
            TWO_KINDS,
        ),
    ],
)
def test_texts(kind: str, body: dict[str, Any], message: str) -> None:
    error = refusal(kind, body)
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "metadata.google.internal",
        "METADATA.goog.",
    ],
)
def test_cloud_metadata_is_not_recorded(host: str) -> None:
    error = refusal("web", WEB | {"url": f"http://{host}/latest?token=secret"})
    assert error.code is Code.INVALID_ARGUMENT
    assert "this server does not open" in error.message
    assert "secret" not in error.message
    open_to_all = replace(CONTEXT, deny_networks=())
    request = StartEgressRequest(egress_id="EG_1")
    json_format.ParseDict({"web": WEB | {"url": f"http://{host}/"}}, request)
    assert plan_of(request, open_to_all).egress_id == "EG_1"


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ({"s3": {"access_key": "a"}}, "s3 secret (there is access_key alone)"),
        ({"s3": {"secret": "s"}}, "s3 access_key (there is secret alone)"),
        (
            {"s3": {"session_token": "s"}},
            "s3 access_key (there is a session_token, and no key that it belongs to)",
        ),
        ({"aliOSS": {"secret": "s"}}, "aliOSS access_key (there is secret alone)"),
        (
            {"s3": {"proxy": {"username": "u", "password": "p"}}},
            "proxy url (there is a username or a password, and no proxy)",
        ),
        (
            {"gcp": {"proxy": {"password": "p"}}},
            "proxy url (there is a username or a password, and no proxy)",
        ),
    ],
)
def test_half_of_what_belongs_together(provider: dict[str, dict[str, Any]], field: str) -> None:
    """Whether or not storages are tried at the start."""
    storage = {name: fields | {"bucket": "b"} for name, fields in provider.items()}
    _is_field(refusal("web", WEB | {"file_outputs": [storage]}), field)


def test_retry_would_overwrite() -> None:
    for body in (
        {"file_outputs": [{"filepath": "x"}]},
        {"segment_outputs": [{"playlist_name": "x"}]},
        {"image_outputs": [{"filename_prefix": "x"}]},
    ):
        error = refusal("web", {"url": "http://e.com"} | body, retry_count=1)
        assert error.code is Code.FAILED_PRECONDITION
        assert error.message == "output configuration does not support retry"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("replay", {"replay_id": "R"}, "exporting a replay is not yet supported"),
    ],
)
def test_not_yet(kind: str, body: dict[str, Any], message: str) -> None:
    error = refusal(kind, body)
    assert (error.code, error.message) == (Code.UNIMPLEMENTED, message)


def test_sound_beside_a_page_needs_a_token_of_its_own() -> None:
    mixed = ROOM | FILE | {"audio_mixing": "DUAL_CHANNEL_AGENT", "custom_base_url": "https://t.example"}
    request = StartEgressRequest(egress_id="EG_1", token="of the page")
    json_format.ParseDict({"room_composite": mixed}, request)
    with pytest.raises(EgressError) as caught:
        plan_of(request, replace(CONTEXT, make_token=None))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith("audio_mixing of a page needs api_key and api_secret")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_that_are_a_request_are_planned_or_refused(data: bytes) -> None:
    request = StartEgressRequest(egress_id="EG_1")
    try:
        request.MergeFromString(data)
    except Exception:
        return
    try:
        request_kind(request)
        assert isinstance(plan_of(request, CONTEXT), Plan)
    except EgressError as error:
        assert error.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.FAILED_PRECONDITION)
