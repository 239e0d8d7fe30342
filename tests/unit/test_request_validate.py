"""Requests that become plans: sources, encodings, outputs, storages."""

import posixpath
import time
from dataclasses import replace
from datetime import UTC
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from openegress.core import plan as parts
from openegress.core import storages
from openegress.core.codecs import AudioCodec, Container, H264Profile, VideoCodec
from openegress.core.passthrough import Passthrough
from openegress.core.plan import AudioRoute
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.validate import Context, RequestKind, SessionLimits, plan_of, request_kind

NOW_NS = 1_739_527_024_816_835_412
CONTEXT = Context(
    now_ns=NOW_NS,
    storage=StoragePlan(backend=LocalStorage(root="/out"), retry_for_s=60.0),
    ws_url="ws://livekit:7880",
    make_token=lambda egress_id, room: f"token of {egress_id} for {room}",
    zone=UTC,
)
S3 = {"bucket": "b", "access_key": "a", "secret": "s"}
FILE = {"file_outputs": [{"filepath": "x"}]}


def request(kind: str, body: dict[str, Any], **outer: Any) -> StartEgressRequest:
    fields = {"egress_id": "EG_1", "room_id": "RM_1", kind: body} | outer
    return json_format.ParseDict(fields, StartEgressRequest())


def plan(kind: str, body: dict[str, Any], context: Context = CONTEXT, **outer: Any) -> parts.Plan:
    found = plan_of(request(kind, body, **outer), context)
    assert parts.decode(parts.encode(found)) == found
    return found


def room(**body: Any) -> parts.Plan:
    return plan("room_composite", {"room_name": "demo"} | body)


def file_of(found: parts.Plan) -> parts.FileOutput:
    (output,) = (output for output in found.outputs if isinstance(output, parts.FileOutput))
    return output


# --- sources


def test_room_composite_is_the_room_laid_out() -> None:
    found = room(layout="speaker", **FILE)
    assert found.source == parts.LayoutSource(
        room_name="demo",
        layout="speaker",
        ws_url="ws://livekit:7880",
        token="token of EG_1 for demo",
        audio=(AudioRoute("all"),),
    )
    assert (found.room_name, found.room_id) == ("demo", "RM_1")
    assert found.name_values == {
        "time": "2025-02-14T095704",
        "utc": "20250214095704816",
        "room_name": "demo",
        "room_id": "RM_1",
    }
    assert found.video == parts.VideoEncoding(1280, 720, 30, 3000, 4.0, VideoCodec.H264, H264Profile.MAIN)
    assert found.audio == parts.AudioEncoding(AudioCodec.AAC, 128, 44_100)
    assert file_of(found).container is Container.MP4


PAGE = {"custom_base_url": "https://t.example"}


@pytest.mark.parametrize("mixing", ["DUAL_CHANNEL_AGENT", "DUAL_CHANNEL_ALTERNATE"])
def test_sound_that_is_mixed_here_beside_a_page(mixing: str) -> None:
    found = plan("room_composite", {"room_name": "demo", "audio_mixing": mixing} | PAGE | FILE, token="T")
    assert isinstance(found.source, parts.TemplateSource)
    assert found.source.token == "T"
    native = room(audio_mixing=mixing, **FILE)
    assert isinstance(native.source, parts.LayoutSource)
    assert found.source.sound == parts.MediaSource(
        room_name="demo",
        ws_url="ws://livekit:7880",
        token="token of EG_1_sound for demo",
        audio=native.source.audio,
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"video_only": True, "audio_mixing": "DUAL_CHANNEL_AGENT"},
        {
            "audio_mixing": "DUAL_CHANNEL_AGENT",
            "file_outputs": [],
            "image_outputs": [{"filename_prefix": "i"}],
        },
    ],
)
def test_sound_that_a_page_mixes_or_nobody_records(more: dict[str, Any]) -> None:
    found = room(**PAGE | FILE | more)
    assert isinstance(found.source, parts.TemplateSource) and found.source.sound is None


def test_sound_alone_that_is_mixed_here_needs_no_page() -> None:
    body = {"room_name": "demo", "audio_only": True, "audio_mixing": "DUAL_CHANNEL_AGENT"} | PAGE | FILE
    assert request_kind(request("room_composite", body)) is RequestKind.AUDIO_ROOM_COMPOSITE
    found = plan("room_composite", body)
    assert isinstance(found.source, parts.MediaSource)
    assert found.notices == ("custom_base_url has no effect on sound that audio_mixing takes from the room",)


def test_token_and_url_of_the_request_come_first() -> None:
    found = plan("room_composite", {"room_name": "demo"} | FILE, token="T", ws_url="wss://other")
    assert isinstance(found.source, parts.LayoutSource)
    assert (found.source.token, found.source.ws_url) == ("T", "wss://other")


@pytest.mark.parametrize(
    ("custom", "base_url", "trusted"),
    [("", "http://127.0.0.1:7980/", True), ("https://t.example/x", "https://t.example/x", False)],
)
def test_a_page_that_lays_out_the_room(custom: str, base_url: str, trusted: bool) -> None:
    context = replace(CONTEXT, template_base="http://127.0.0.1:7980/")
    body = {"room_name": "demo", "layout": "mine", "custom_base_url": custom} | FILE
    assert plan("room_composite", body, context).source == parts.TemplateSource(
        room_name="demo",
        base_url=base_url,
        layout="mine",
        ws_url="ws://livekit:7880",
        token="token of EG_1 for demo",
        is_trusted=trusted,
    )


def test_a_room_without_sound() -> None:
    source = room(video_only=True, **FILE).source
    assert isinstance(source, parts.LayoutSource)
    assert source.audio == ()


def test_a_picture_with_sound_on_two_channels() -> None:
    source = room(audio_mixing="DUAL_CHANNEL_AGENT", **FILE).source
    assert isinstance(source, parts.LayoutSource)
    assert source.audio == (
        AudioRoute("kind", "agent", "left"),
        AudioRoute("not_kind", "agent", "right"),
    )


def test_custom_base_url() -> None:
    source = room(custom_base_url="https://t.example/x", **FILE).source
    assert isinstance(source, parts.TemplateSource)
    assert source.base_url == "https://t.example/x"


@pytest.mark.parametrize(
    ("mixing", "routes"),
    [
        ("DEFAULT_MIXING", (AudioRoute("all"),)),
        (
            "DUAL_CHANNEL_AGENT",
            (AudioRoute("kind", "agent", "left"), AudioRoute("not_kind", "agent", "right")),
        ),
        ("DUAL_CHANNEL_ALTERNATE", (AudioRoute("alternate"),)),
    ],
)
def test_audio_only_room_needs_no_browser(mixing: str, routes: tuple[AudioRoute, ...]) -> None:
    found = room(audio_only=True, audio_mixing=mixing, layout="grid", **FILE)
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.audio == routes
    assert found.source.video is None
    assert found.video is None
    assert file_of(found).container is Container.OGG
    assert file_of(found).filepath == "x.ogg"
    assert found.audio == parts.AudioEncoding(AudioCodec.OPUS, 128, 48_000)


def test_audio_only_of_a_custom_page_needs_the_page() -> None:
    found = room(audio_only=True, custom_base_url="http://t.example", **FILE)
    assert isinstance(found.source, parts.TemplateSource)
    assert found.video is None


def test_web() -> None:
    body = {"url": "https://example.com", "await_start_signal": True, "video_only": True} | FILE
    found = plan("web", body, room_id="")
    assert found.source == parts.WebSource(url="https://example.com", await_start_signal=True)
    assert found.audio is None
    assert found.video is not None
    assert "room_name" not in found.name_values


def test_participant() -> None:
    found = plan(
        "participant",
        {"room_name": "demo", "identity": "ann", "screen_share": True, "file_outputs": [{}]},
    )
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.video == parts.ParticipantVideo("ann", True)
    assert found.source.audio == (AudioRoute("participant", "ann"),)
    assert found.source.participant_identity == "ann"
    assert file_of(found).filepath == "ann-2025-02-14T095704.mp4"
    assert found.passthrough is Passthrough.NEVER


@pytest.mark.parametrize(
    ("body", "container", "path", "may_pass"),
    [
        ({"audio_track_id": "A", "video_track_id": "V"}, Container.MP4, "x.mp4", True),
        ({"audio_track_id": "A"}, Container.OGG, "x.ogg", True),
        ({"video_track_id": "V"}, Container.MP4, "x.mp4", True),
        ({"video_track_id": "V", "preset": "H264_720P_30"}, Container.MP4, "x.mp4", False),
    ],
)
def test_track_composite(body: dict[str, Any], container: Container, path: str, may_pass: bool) -> None:
    found = plan("track_composite", {"room_name": "demo"} | FILE | body)
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.audio == ((AudioRoute("track", "A"),) if "audio_track_id" in body else ())
    assert found.source.video == (parts.TrackVideo("V") if "video_track_id" in body else None)
    assert (file_of(found).container, file_of(found).filepath) == (container, path)
    assert (found.passthrough is Passthrough.IF_POSSIBLE) is may_pass


def test_webm_where_nothing_need_be_encoded() -> None:
    body = {"room_name": "demo", "video_track_id": "V", "file_outputs": [{"filepath": "x.webm"}]}
    assert file_of(plan("track_composite", body)).container is Container.WEBM
    assert file_of(room(audio_only=True, file_outputs=[{"filepath": "x.webm"}])).filepath == "x.webm"


STREAM = {"stream_outputs": [{"protocol": "RTMP", "urls": ["rtmp://h/app/key"]}]}
SEGMENTS = {"segment_outputs": [{"filename_prefix": "s"}]}


@pytest.mark.parametrize(
    ("codecs", "file", "others", "path", "taker"),
    [
        ("VP8", {"filepath": "x.webm"}, {}, "x.webm", ""),
        ("VP8", {"filepath": "x.WEBM"}, {}, "x.webm", ""),
        ("VP8", {"filepath": "x"}, {}, "x.webm", ""),
        ("VP8", {"filepath": "x.ogg"}, {}, "x.webm", ""),
        ("VP8 OPUS", {"filepath": "x"}, {}, "x.webm", ""),
        ("VP8", {"filepath": "x.mp4"}, {}, "x.mp4", "MP4"),
        ("VP8", {"filepath": "x", "file_type": "MP4"}, {}, "x.mp4", "MP4"),
        ("VP8", {"filepath": "x.webm", "file_type": "MP4"}, {}, "x.mp4", "MP4"),
        ("VP8", {"filepath": "x.webm"}, STREAM, "x.mp4", "a stream"),
        ("VP8", {"filepath": "x.webm"}, SEGMENTS, "x.mp4", "HLS"),
        ("VP8 AAC", {"filepath": "x.webm"}, {}, "x.mp4", "a file of AAC"),
        ("DEFAULT_VC", {"filepath": "x.webm"}, {}, "x.webm", ""),
        ("H264_MAIN", {"filepath": "x.webm"}, {}, "x.mp4", ""),
        ("DEFAULT_VC AAC", {"filepath": "x.webm"}, {}, "x.mp4", ""),
        ("DEFAULT_VC", {"filepath": "x.webm"}, STREAM, "x.mp4", ""),
        ("DEFAULT_VC", {"filepath": "x.webm"}, SEGMENTS, "x.mp4", ""),
    ],
)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("room_composite", {"room_name": "demo"}),
        ("web", {"url": "http://e.com"}),
        ("participant", {"room_name": "demo", "identity": "ann"}),
        ("track_composite", {"room_name": "demo", "audio_track_id": "A", "video_track_id": "V"}),
    ],
)
def test_vp8_goes_where_webm_goes(
    kind: str,
    body: dict[str, Any],
    codecs: str,
    file: dict[str, str],
    others: dict[str, Any],
    path: str,
    taker: str,
) -> None:
    video, _, audio = codecs.partition(" ")
    advanced = {"video_codec": video, "audio_codec": audio or "DEFAULT_AC"}
    found = plan(kind, body | others | {"advanced": advanced, "file_outputs": [file]})
    assert found.video is not None and found.audio is not None
    assert file_of(found).filepath == path
    is_webm = path.endswith(".webm")
    assert found.video.codec is (VideoCodec.VP8 if is_webm else VideoCodec.H264)
    assert found.audio.codec is (AudioCodec.OPUS if is_webm else AudioCodec.AAC)
    notice = f"advanced.video_codec VP8 is encoded as H264: {taker} takes no VP8"
    asked, ending = (posixpath.splitext(each.lower())[1] for each in (file["filepath"], path))
    renamed = f"filepath ends in {asked}, and the file is {ending[1:].upper()}: its name ends in {ending}"
    told = (notice if taker else "", renamed if asked not in ("", ending) else "")
    assert found.notices == tuple(filter(None, told))


def test_vp8_of_a_stream_alone() -> None:
    found = room(advanced={"video_codec": "VP8"}, **STREAM)
    assert found.video is not None and found.video.codec is VideoCodec.H264
    assert found.notices == ("advanced.video_codec VP8 is encoded as H264: a stream takes no VP8",)


def test_track_to_file() -> None:
    found = plan(
        "track",
        {
            "room_name": "demo",
            "track_id": "TR_1",
            "file": {"filepath": "{room_name}/{track_id}-{track_type}", "disable_manifest": True},
        },
    )
    assert found.passthrough is Passthrough.ALWAYS
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.single_track_id == "TR_1"
    output = file_of(found)
    assert output.container is None
    assert output.filepath == "demo/TR_1-{track_type}"
    assert not output.manifest
    assert (found.video, found.audio) == (None, None)
    assert found.name_values["track_id"] == "TR_1"


def test_track_default_name_is_the_track_id() -> None:
    found = plan("track", {"room_name": "demo", "track_id": "TR_1", "file": {}})
    assert file_of(found).filepath == "TR_1-2025-02-14T095704"


def test_track_to_websocket() -> None:
    body = {"room_name": "demo", "track_id": "TR_1", "websocket_url": "wss://h/x?rate=16000&key=k"}
    (output,) = plan("track", body).outputs
    assert output == parts.WebsocketOutput(
        url="wss://h/x?rate=16000&key=k",
        redacted="wss://h/{...}?rate={...}&key={...}",
        sample_rate=16_000,
        channels=2,
        deny_networks=CONTEXT.deny_networks,
    )


# --- v2


def v2(source: dict[str, Any], outputs: list[dict[str, Any]], **body: Any) -> parts.Plan:
    return plan("egress", {"room_name": "demo", "outputs": outputs} | source | body)


V2_FILE = [{"file": {"filepath": "x"}}]


def test_v2_template_and_web() -> None:
    template = v2({"template": {"layout": "grid"}}, V2_FILE)
    assert isinstance(template.source, parts.LayoutSource)
    assert template.source.layout == "grid"
    web = plan("egress", {"web": {"url": "http://example.com"}, "outputs": V2_FILE}, room_id="")
    assert isinstance(web.source, parts.WebSource)
    assert web.room_name == ""


def test_v2_media() -> None:
    found = v2(
        {
            "media": {
                "participant_video": {"identity": "ann", "prefer_screen_share": True},
                "audio": {
                    "routes": [
                        {"track_id": "A", "channel": "AUDIO_CHANNEL_LEFT"},
                        {"participant_identity": "bob", "channel": "AUDIO_CHANNEL_RIGHT"},
                        {"participant_kind": "AGENT"},
                    ]
                },
            }
        },
        V2_FILE,
    )
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.video == parts.ParticipantVideo("ann", True)
    assert found.source.audio == (
        AudioRoute("track", "A", "left"),
        AudioRoute("participant", "bob", "right"),
        AudioRoute("kind", "agent", "both"),
    )


def test_v2_capture_all_to_websockets_takes_no_video() -> None:
    found = v2(
        {"media": {"video_track_id": "V", "audio": {"capture_all": True}}},
        [{"stream": {"protocol": "WEBSOCKET", "urls": ["ws://a", "ws://b?channels=1", "ws://a"]}}],
    )
    assert isinstance(found.source, parts.MediaSource)
    assert found.source.video is None
    assert found.source.audio == (AudioRoute("all"),)
    assert [type(output) for output in found.outputs] == [parts.WebsocketOutput] * 2
    assert (found.video, found.audio) == (None, None)


def test_v2_passthrough() -> None:
    for media in ({"video_track_id": "T"}, {"audio": {"routes": [{"track_id": "T"}]}}):
        found = v2({"media": media}, V2_FILE, preset="PASSTHROUGH")
        assert isinstance(found.source, parts.MediaSource)
        assert found.source.single_track_id == "T"
        assert found.passthrough is Passthrough.ALWAYS
        assert file_of(found).container is None


def test_v2_storage_of_output_then_request_then_server() -> None:
    source = {"web": {"url": "http://example.com"}}
    outputs: list[dict[str, Any]] = [
        {"file": {}, "storage": {"s3": S3 | {"bucket": "own"}}},
        {"segments": {"filename_prefix": "p", "s3": S3 | {"bucket": "inner"}}},
        {"images": {"filename_prefix": "i"}},
    ]
    found = v2(source, outputs, storage={"s3": S3 | {"bucket": "shared"}})
    buckets = [
        output.storage.backend.bucket
        for output in found.outputs
        if isinstance(output, parts.FileOutput | parts.SegmentOutput | parts.ImageOutput)
        and isinstance(output.storage.backend, S3Storage)
    ]
    assert buckets == ["own", "inner", "shared"]


# --- encodings


@pytest.mark.parametrize(
    ("number", "picture"),
    [
        (0, (1280, 720, 30, 3000)),
        (1, (1280, 720, 60, 4500)),
        (2, (1920, 1080, 30, 4500)),
        (3, (1920, 1080, 60, 6000)),
        (4, (720, 1280, 30, 3000)),
        (5, (720, 1280, 60, 4500)),
        (6, (1080, 1920, 30, 4500)),
        (7, (1080, 1920, 60, 6000)),
    ],
)
def test_presets(number: int, picture: tuple[int, int, int, int]) -> None:
    video = room(preset=number, **FILE).video
    assert video is not None
    assert (video.width, video.height, video.framerate, video.kbps) == picture


def test_every_field_of_advanced() -> None:
    found = room(
        advanced={
            "width": 640,
            "height": 360,
            "depth": 24,
            "framerate": 25,
            "audio_codec": "OPUS",
            "audio_bitrate": 96,
            "audio_frequency": 16000,
            "video_codec": "H264_HIGH",
            "video_bitrate": 900,
            "key_frame_interval": 2.5,
        },
        **FILE,
    )
    assert found.video == parts.VideoEncoding(640, 360, 25, 900, 2.5, VideoCodec.H264, H264Profile.HIGH)
    assert found.audio == parts.AudioEncoding(AudioCodec.OPUS, 96, 48_000)


@pytest.mark.parametrize(
    ("outputs", "advanced", "interval_s"),
    [
        (FILE, {}, 4.0),
        (FILE, {"key_frame_interval": 1}, 1.0),
        ({"stream_outputs": [{"urls": ["rtmp://h/a/k"]}]}, {}, 4.0),
        ({"stream_outputs": [{"urls": ["rtmp://h/a/k"]}]}, {"key_frame_interval": 2}, 2.0),
        ({"segment_outputs": [{"filename_prefix": "s"}]}, {}, 4.0),
        ({"segment_outputs": [{"filename_prefix": "s", "segment_duration": 6}]}, {}, 6.0),
        ({"segment_outputs": [{"segment_duration": 6}]}, {"key_frame_interval": 4}, 3.0),
        ({"segment_outputs": [{"segment_duration": 2}]}, {"key_frame_interval": 4}, 2.0),
        (
            {"segment_outputs": [{"segment_duration": 10}], "stream_outputs": [{"urls": ["srt://h:1"]}]},
            {},
            10 / 3,
        ),
        # 5 s at 25 fps are 125 frames: in two parts they would not be whole.
        ({"segment_outputs": [{"segment_duration": 5}]}, {"key_frame_interval": 4, "framerate": 25}, 1.0),
        ({"segment_outputs": [{"segment_duration": 4}]}, {"key_frame_interval": 5e-324}, 1 / 30),
        ({"segment_outputs": [{"segment_duration": 4}]}, {"key_frame_interval": 86_400}, 4.0),
    ],
)
def test_key_frames_fall_on_segments(
    outputs: dict[str, Any], advanced: dict[str, Any], interval_s: float
) -> None:
    video = room(advanced=advanced, **outputs).video
    assert video is not None
    assert video.key_frame_interval_s == pytest.approx(interval_s)


def test_key_frames_of_millions_of_frames_keep_nobody_waiting() -> None:
    """A segment of primes has four divisors."""
    began_s = time.thread_time()
    segments = [{"segment_duration": 43_189}]
    video = room(segment_outputs=segments, advanced={"framerate": 239, "key_frame_interval": 0.999}).video
    assert video is not None
    assert video.key_frame_interval_s == pytest.approx(1 / 239)
    assert time.thread_time() - began_s < 0.1


@pytest.mark.parametrize(
    ("body", "container", "codec"),
    [
        ({"file_outputs": [{"file_type": "MP4"}]}, Container.MP4, AudioCodec.AAC),
        ({"file_outputs": [{"file_type": "OGG"}], "audio_only": True}, Container.OGG, AudioCodec.OPUS),
        ({"file_outputs": [{"file_type": "MP3"}], "audio_only": True}, Container.MP3, AudioCodec.MP3),
        ({"file_outputs": [{"file_type": "MP4"}], "audio_only": True}, Container.MP4, AudioCodec.AAC),
        (
            {"file_outputs": [{}], "audio_only": True, "advanced": {"audio_codec": "AAC"}},
            Container.MP4,
            AudioCodec.AAC,
        ),
        (
            {"file_outputs": [{}], "audio_only": True, "advanced": {"audio_codec": "AC_MP3"}},
            Container.MP4,
            AudioCodec.MP3,
        ),
        (
            {"file_outputs": [{}], "audio_only": True, "stream_outputs": [{"urls": ["rtmp://h/a/k"]}]},
            Container.MP4,
            AudioCodec.AAC,
        ),
        (
            {
                "file_outputs": [{}],
                "stream_outputs": [{"urls": ["rtmp://h/a/k"]}],
                "advanced": {"audio_codec": "OPUS"},
            },
            Container.MP4,
            AudioCodec.AAC,
        ),
        (
            {
                "file_outputs": [{}],
                "segment_outputs": [{"protocol": "HLS_FMP4_PROTOCOL"}],
                "advanced": {"audio_codec": "OPUS"},
            },
            Container.MP4,
            AudioCodec.OPUS,
        ),
    ],
)
def test_file_type_and_codec(body: dict[str, Any], container: Container, codec: AudioCodec) -> None:
    found = room(**body)
    assert file_of(found).container is container
    assert found.audio is not None
    assert found.audio.codec is codec


# --- outputs


def test_what_stands_in_the_list_and_in_the_deprecated_field_is_one() -> None:
    """As SDKs write it that serve older servers too; a second one is refused with those of the list."""
    found = room(
        file={"filepath": "new"},
        file_outputs=[{"filepath": "new"}],
        stream_outputs=[{"protocol": "RTMP"}],
    )
    assert file_of(found).filepath == "new.mp4"


def test_deprecated_field_counts_where_its_list_is_empty() -> None:
    found = room(segments={"filename_prefix": "s"}, file_outputs=[{"filepath": "f"}])
    assert [type(output) for output in found.outputs] == [parts.FileOutput, parts.SegmentOutput]


def test_all_outputs_together_in_the_order_that_infos_count_on() -> None:
    found = room(
        stream_outputs=[{"urls": ["rtmp://h/a/k", "mux://abc", "rtmp://h/a/k"]}],
        image_outputs=[{"filename_prefix": "i/"}, {"width": 320, "filename_suffix": 2}],
        segment_outputs=[
            {"filename_prefix": "d/s", "live_playlist_name": "live", "filename_suffix": "TIMESTAMP"}
        ],
        file_outputs=[{}],
    )
    file, segments, first, second, stream = found.outputs
    assert isinstance(file, parts.FileOutput)
    assert segments == parts.SegmentOutput(
        directory="d/",
        prefix="s",
        playlist="s.m3u8",
        live_playlist="live.m3u8",
        segment_s=4,
        container=Container.TS,
        timestamp_suffix=True,
        storage=CONTEXT.storage,
    )
    assert first == parts.ImageOutput(
        directory="i/",
        prefix="demo-2025-02-14T095704",
        interval_s=10,
        width=1280,
        height=720,
        suffix="index",
        storage=CONTEXT.storage,
    )
    assert isinstance(second, parts.ImageOutput)
    assert (second.width, second.height, second.suffix) == (320, 180, "none")
    assert isinstance(stream, parts.StreamOutput)
    assert [target.redacted for target in stream.targets] == [
        "rtmp://h/a/{...}",
        "rtmps://global-live.mux.com:443/app/{a...c}",
    ]


def test_only_images_take_no_sound() -> None:
    found = room(image_outputs=[{}])
    assert found.audio is None
    assert found.video is not None


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (1280, 720)),
        ({"width": 640}, (640, 360)),
        ({"height": 180}, (320, 180)),
        ({"width": 200, "height": 200}, (200, 200)),
    ],
)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("room_composite", {"room_name": "demo"}),
        ("web", {"url": "http://a"}),
        ("participant", {"room_name": "demo", "identity": "a"}),
        ("track_composite", {"room_name": "demo", "video_track_id": "TR_1"}),
    ],
)
def test_images_have_the_shape_of_the_picture(
    kind: str, body: dict[str, Any], asked: dict[str, int], size: tuple[int, int]
) -> None:
    (images,) = plan(kind, body | {"image_outputs": [asked]}).outputs
    assert isinstance(images, parts.ImageOutput)
    assert (images.width, images.height) == size


def test_stream_destinations_keep_their_ids() -> None:
    found = v2(
        {"template": {}},
        [{"stream": {"protocol": "SRT", "destinations": [{"id": "main", "url": "srt://h:9000"}]}}],
    )
    (stream,) = found.outputs
    assert isinstance(stream, parts.StreamOutput)
    assert stream.targets == (parts.StreamTarget("srt://h:9000", "srt://h:9000", "main"),)


# --- storage


def test_upload_keeps_the_servers_manners() -> None:
    server = StoragePlan(backend=S3Storage(bucket="server"), prefix="p/", presign=True, retry_for_s=5.0)
    context = replace(CONTEXT, storage=server, allow_local=False)
    own = {
        "filepath": "/lead/x",
        "s3": S3
        | {
            "region": "r",
            "endpoint": "http://minio",
            "force_path_style": True,
            "session_token": "t",
            "assume_role_arn": "arn",
            "assume_role_external_id": "ext",
            "metadata": {"k": "v"},
            "tagging": "a=b",
            "content_disposition": "inline",
            "proxy": {"url": "http://p", "username": "u", "password": "w"},
        },
    }
    output = file_of(plan("web", {"url": "http://e.com", "file_outputs": [own]}, context))
    assert output.filepath == "lead/x.mp4"
    assert output.storage == StoragePlan(
        backend=S3Storage(
            bucket="b",
            access_key="a",
            secret="s",
            session_token="t",
            assume_role_arn="arn",
            assume_role_external_id="ext",
            region="r",
            endpoint="http://minio",
            force_path_style=True,
            metadata={"k": "v"},
            tagging="a=b",
            content_disposition="inline",
            proxy=storages.Proxy("http://p", "u", "w"),
            deny_networks=context.deny_networks,
        ),
        prefix="p/",
        presign=True,
        retry_for_s=5.0,
    )
    plain = file_of(plan("web", {"url": "http://e.com", "file_outputs": [{}]}, context))
    assert plain.storage == server


@pytest.mark.parametrize(
    ("upload", "backend"),
    [
        (
            {"gcp": {"bucket": "b", "credentials": "{}"}},
            storages.GCPStorage(bucket="b", credentials="{}"),
        ),
        (
            {"azure": {"container_name": "c", "account_name": "name", "account_key": "k"}},
            storages.AzureStorage(container="c", account_name="name", account_key="k"),
        ),
        (
            {"aliOSS": {"bucket": "b", "access_key": "a", "secret": "s", "region": "r", "endpoint": "e"}},
            storages.AliOSSStorage(bucket="b", access_key="a", secret="s", region="r", endpoint="e"),
        ),
    ],
)
def test_other_uploads(upload: dict[str, Any], backend: storages.Backend) -> None:
    backend = msgspec.structs.replace(backend, deny_networks=CONTEXT.deny_networks)
    assert file_of(room(file_outputs=[upload])).storage.backend == backend


def test_local_paths_inside_the_root_stay_absolute() -> None:
    assert file_of(room(file_outputs=[{"filepath": "/out/a/x.mp4"}])).filepath == "/out/a/x.mp4"


# --- limits and kinds


@pytest.mark.parametrize(
    ("outputs", "limits"),
    [
        (FILE, parts.Limits(60.0, 1000)),
        (FILE | {"stream_outputs": [{"protocol": "RTMP"}]}, parts.Limits(30.0, 1000)),
        ({"segment_outputs": [{}]}, parts.Limits(0.0, 0)),
        ({"image_outputs": [{}]}, parts.Limits(10.0, 0)),
    ],
)
def test_the_shortest_limit_holds(outputs: dict[str, Any], limits: parts.Limits) -> None:
    context = replace(CONTEXT, limits=SessionLimits(60.0, 30.0, 0.0, 10.0, 1000))
    assert plan("room_composite", {"room_name": "demo"} | outputs, context).limits == limits


def test_retries_name_themselves() -> None:
    body = {"room_name": "demo", "file_outputs": [{"filepath": "x-{retry}"}]}
    assert file_of(plan("room_composite", body, retry_count=2)).filepath == "x-2.mp4"
    default = plan("room_composite", {"room_name": "demo", "file_outputs": [{}]}, retry_count=2)
    assert file_of(default).filepath == "demo-2025-02-14T095704-2.mp4"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("room_composite", {}, RequestKind.ROOM_COMPOSITE),
        ("room_composite", {"audio_only": True}, RequestKind.AUDIO_ROOM_COMPOSITE),
        (
            "room_composite",
            {"audio_only": True, "custom_base_url": "http://t"},
            RequestKind.ROOM_COMPOSITE_PAGE,
        ),
        ("room_composite", {"custom_base_url": "http://t"}, RequestKind.ROOM_COMPOSITE_PAGE),
        ("egress", {"template": {"custom_base_url": "http://t"}}, RequestKind.ROOM_COMPOSITE_PAGE),
        ("web", {}, RequestKind.WEB),
        ("web", {"audio_only": True}, RequestKind.AUDIO_WEB),
        ("participant", {}, RequestKind.PARTICIPANT),
        ("track_composite", {}, RequestKind.TRACK_COMPOSITE),
        ("track", {}, RequestKind.TRACK),
        ("egress", {"template": {}}, RequestKind.ROOM_COMPOSITE),
        ("egress", {"template": {"audio_only": True}}, RequestKind.AUDIO_ROOM_COMPOSITE),
        ("egress", {"web": {"audio_only": True}}, RequestKind.AUDIO_WEB),
        ("egress", {"media": {"participant_video": {}}}, RequestKind.PARTICIPANT),
        ("egress", {"media": {"video_track_id": "V"}}, RequestKind.TRACK_COMPOSITE),
        ("egress", {"media": {"audio": {"capture_all": True}}}, RequestKind.AUDIO_ROOM_COMPOSITE),
        ("egress", {"media": {"video_track_id": "V"}, "preset": "PASSTHROUGH"}, RequestKind.TRACK),
    ],
)
def test_request_kind(kind: str, body: dict[str, Any], expected: RequestKind) -> None:
    assert request_kind(request(kind, body)) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, RequestKind.ROOM_COMPOSITE_PAGE),
        ({"custom_base_url": "http://t"}, RequestKind.ROOM_COMPOSITE_PAGE),
        ({"audio_only": True}, RequestKind.AUDIO_ROOM_COMPOSITE),
    ],
)
@pytest.mark.parametrize("kind", ["room_composite", "egress"])
def test_request_kind_where_the_server_has_a_template(
    kind: str, body: dict[str, Any], expected: RequestKind
) -> None:
    body = body if kind == "room_composite" else {"template": body}
    assert request_kind(request(kind, body), "http://own/") is expected


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"audio_only": True, "advanced": {"width": 640, "height": 360, "key_frame_interval": 2}},
            ["advanced.width", "advanced.height", "advanced.key_frame_interval"],
        ),
        ({"audio_only": True, "advanced": {"audio_bitrate": 96}}, []),
        (
            {"video_only": True, "advanced": {"audio_frequency": 48_000, "framerate": 25}},
            ["advanced.audio_frequency"],
        ),
        ({"video_only": True, "audio_mixing": "DUAL_CHANNEL_AGENT"}, ["audio_mixing"]),
        ({"advanced": {"width": 640, "audio_bitrate": 96}}, []),
    ],
)
def test_what_is_asked_of_a_picture_or_sound_that_is_not_recorded(
    fields: dict[str, Any], told: list[str]
) -> None:
    """A setting without effect is told, so that nobody believes it had one."""
    what = "picture" if "audio_only" in fields else "sound"
    notices = room(file_outputs=[{}], **fields).notices
    assert list(notices) == [f"{name} has no effect: no {what} is recorded" for name in told]
