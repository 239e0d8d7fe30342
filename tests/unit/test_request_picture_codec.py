"""The option video_codec: what is encoded to it, what refuses it, what the configuration's gives way to."""

from dataclasses import replace
from typing import Any

import pytest

from openegress.core.codecs import AskedCodec, AudioCodec, Container, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.core.passthrough import Passthrough
from openegress.core.plan import FileOutput, Plan
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import options
from openegress.request.options import OptionDefaults
from openegress.request.validate import Context, plan_of

CONTEXT = Context(
    now_ns=0,
    storage=StoragePlan(LocalStorage("/out")),
    ws_url="ws://livekit:7880",
    make_token=lambda egress_id, room: "token",
)


def plan(asked: str = "", configured: str = "", path: str = "a", **body: Any) -> Plan:
    context = replace(
        CONTEXT, options=OptionDefaults(video_codec=AskedCodec(configured) if configured else None)
    )
    room: dict[str, Any] = {"room_name": "demo", "layout": f"grid?video_codec={asked}" if asked else "grid"}
    room |= {"file_outputs": [{"filepath": path}]} | body
    return plan_of(StartEgressRequest(egress_id="EG_1", room_composite=room), context)


def made(found: Plan) -> tuple[VideoCodec | None, AudioCodec | None, Container | None]:
    (file,) = (each for each in found.outputs if isinstance(each, FileOutput))
    return (
        found.video.codec if found.video is not None else None,
        found.audio.codec if found.audio is not None else None,
        file.container,
    )


@pytest.mark.parametrize("ways", [("asked",), ("configured",)])
@pytest.mark.parametrize(
    ("codec", "path", "expected"),
    [
        ("h264", "a", (VideoCodec.H264, AudioCodec.AAC, Container.MP4)),
        ("hevc", "a", (VideoCodec.H265, AudioCodec.AAC, Container.MP4)),
        ("hevc", "a.mp4", (VideoCodec.H265, AudioCodec.AAC, Container.MP4)),
        ("av1", "a", (VideoCodec.AV1, AudioCodec.AAC, Container.MP4)),
        ("av1", "a.mp4", (VideoCodec.AV1, AudioCodec.AAC, Container.MP4)),
        ("av1", "a.webm", (VideoCodec.AV1, AudioCodec.OPUS, Container.WEBM)),
        ("vp9", "a", (VideoCodec.VP9, AudioCodec.OPUS, Container.WEBM)),
        ("vp9", "a.mp4", (VideoCodec.VP9, AudioCodec.AAC, Container.MP4)),
        ("vp9", "a.webm", (VideoCodec.VP9, AudioCodec.OPUS, Container.WEBM)),
    ],
)
def test_the_codec_and_the_path_decide_the_file(
    ways: tuple[str, ...], codec: str, path: str, expected: tuple[VideoCodec, AudioCodec, Container]
) -> None:
    found = plan(path=path, **dict.fromkeys(ways, codec))
    assert made(found) == expected and found.notices == ()


def test_sound_that_no_webm_takes_brings_vp9_into_an_mp4() -> None:
    found = plan("vp9", advanced={"audio_codec": "AAC"})
    assert made(found) == (VideoCodec.VP9, AudioCodec.AAC, Container.MP4)


STREAM: dict[str, Any] = {"stream_outputs": [{"urls": ["rtmp://a.example/live/key"]}]}
SRT = {"stream_outputs": [{"urls": ["srt://a.example:9000"], "protocol": "SRT"}]}
TS = {"segment_outputs": [{"filename_prefix": "s"}]}
FMP4: dict[str, Any] = {"segment_outputs": [{"filename_prefix": "s", "protocol": 2}]}
REFUSED = [
    ("hevc", STREAM, "streams are H.264; leave it out, or stream in a separate egress"),
    ("av1", SRT, "streams are H.264; leave it out, or stream in a separate egress"),
    ("hevc", TS, "in HLS it needs segments of fMP4; set protocol to HLS_FMP4_PROTOCOL"),
    ("av1", TS, "in HLS it needs segments of fMP4; set protocol to HLS_FMP4_PROTOCOL"),
    ("vp9", FMP4, "HLS players do not support VP9; leave it out, or ask for hevc or av1"),
    ("hevc", {"path": "a.webm"}, "WebM cannot hold HEVC; use a path that ends in .mp4"),
    ("av1", {"advanced": {"width": 640, "height": 16384}}, "pictures are at most 8704 high"),
    ("av1", {"advanced": {"width": 640, "height": 62}}, "the sides of a picture are 64 at least"),
    (
        "hevc",
        {"advanced": {"video_codec": "VP8"}},
        "advanced.video_codec asks for vp8; leave one of the two out",
    ),
]


@pytest.mark.parametrize(("codec", "body", "why"), REFUSED)
def test_what_no_output_takes_is_refused_where_the_request_asks_for_it(
    codec: str, body: dict[str, Any], why: str
) -> None:
    with pytest.raises(EgressError) as caught:
        plan(codec, **body)
    assert (caught.value.code, caught.value.message) == (
        Code.INVALID_ARGUMENT,
        f"video_codec={codec}: {why}",
    )
    found = plan(configured=codec, **body)
    assert found.video is not None and found.video.codec in (VideoCodec.H264, VideoCodec.VP8)


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_segments_of_fmp4_take_it(codec: str) -> None:
    assert plan(codec, **FMP4).video == plan(configured=codec, **FMP4).video
    assert made(plan(codec, **FMP4))[0] is AskedCodec(codec).codec


def test_the_request_wins_over_the_configuration() -> None:
    assert made(plan("h264", "av1"))[0] is VideoCodec.H264
    assert made(plan(configured="av1", advanced={"video_codec": "H264_HIGH"}))[0] is VideoCodec.H264
    assert made(plan("h264", "av1", advanced={"video_codec": "H264_HIGH"}))[0] is VideoCodec.H264


def test_where_no_picture_is_encoded() -> None:
    with pytest.raises(EgressError) as caught:
        plan("av1", audio_only=True)
    assert caught.value.message.startswith("video_codec: no picture of this egress is encoded")
    assert made(plan(configured="av1", audio_only=True)) == (None, AudioCodec.OPUS, Container.OGG)


def test_tracks_that_would_be_stored_as_they_come_are_encoded_where_it_is_asked_for() -> None:
    def of(asked: str, configured: str) -> Plan:
        context = replace(
            CONTEXT, options=OptionDefaults(video_codec=AskedCodec(configured) if configured else None)
        )
        request = StartEgressRequest(
            egress_id="EG_1",
            track_composite={
                "room_name": "demo",
                "audio_track_id": "TR_A",
                "video_track_id": "TR_V",
                "file_outputs": [{"filepath": "a.mp4"}],
            },
        )
        if asked:
            options.carry(request.track_composite, options.Options(video_codec=AskedCodec(asked)))
        return plan_of(request, context)

    assert {of("", "").passthrough, of("", "hevc").passthrough} == {Passthrough.IF_POSSIBLE}
    assert of("hevc", "").passthrough is Passthrough.NEVER
    assert made(of("hevc", ""))[0] is VideoCodec.H265


def test_a_rate_that_varies_is_for_h264() -> None:
    with pytest.raises(EgressError) as caught:
        plan("av1&variable_frame_rate=true")
    assert caught.value.code is Code.UNIMPLEMENTED
