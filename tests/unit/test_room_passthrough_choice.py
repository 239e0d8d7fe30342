"""When tracks may go into the outputs as they are."""

from dataclasses import replace

import msgspec
import pytest

from openegress.core.codecs import AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.core.passthrough import Passthrough
from openegress.core.plan import (
    AudioRoute,
    FileOutput,
    ImageOutput,
    LayoutSource,
    MediaSource,
    Output,
    Plan,
    SegmentOutput,
    StreamOutput,
    StreamTarget,
    TrackVideo,
    VideoEncoding,
    WebsocketOutput,
)
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.codec import (
    codec_of,
    container_for,
    passthrough_possible,
    refuse_unsuitable,
    wants_packets,
)
from openegress.source.room.open import is_whole_room
from openegress.source.room.passthrough_source import name_values

ALICE = Participant("PA_1", "alice", "Alice", "standard")
STORAGE = StoragePlan(LocalStorage("/out"))


def track(mime: str) -> Track:
    kind = MediaKind(mime.partition("/")[0])
    source = TrackSource.CAMERA if kind is MediaKind.VIDEO else TrackSource.MICROPHONE
    return Track(f"TR_{mime}", mime, kind, source, mime, ALICE, False)


@pytest.mark.parametrize(
    ("publishers", "expected"),
    [
        ({"video/VP8": "alice", "audio/opus": "alice"}, "alice"),
        ({"video/VP8": "alice", "audio/opus": "bob"}, "alice"),
        ({"audio/opus": "bob", "audio/PCMU": "alice"}, None),
        ({"video/VP8": "alice", "video/H264": "bob"}, None),
    ],
)
def test_whose_recording_it_is(publishers: dict[str, str], expected: str | None) -> None:
    """Of a picture and somebody else's sound it is the picture's."""
    tracks = [
        replace(track(mime), participant=replace(ALICE, identity=identity))
        for mime, identity in publishers.items()
    ]
    assert name_values(tracks).get("publisher_identity") == expected


@pytest.mark.parametrize(
    ("of_room", "video", "audio"),
    [
        (True, None, [AudioRoute("all")]),
        (True, None, [AudioRoute("kind", "agent"), AudioRoute("not_kind", "agent")]),
        (True, None, [AudioRoute("alternate")]),
        (False, None, [AudioRoute("participant", "alice")]),
        (False, None, [AudioRoute("track", "TR_1"), AudioRoute("all", exclude=True)]),
        (False, TrackVideo("TR_1"), [AudioRoute("all")]),
    ],
)
def test_what_a_single_track_can_name(
    of_room: bool, video: TrackVideo | None, audio: list[AudioRoute]
) -> None:
    """Even if only one person is there when it begins."""
    source = MediaSource("r", "ws://l", "T", video=video, audio=tuple(audio))
    assert is_whole_room(source) is of_room
    assert is_whole_room(LayoutSource("r", "grid", "ws://l", "T"))


def file(container: Container | None) -> FileOutput:
    return FileOutput("out", container, STORAGE)


def segments(container: Container) -> SegmentOutput:
    return SegmentOutput("", "s", "s.m3u8", "", 4, container, False, STORAGE)


STREAM = StreamOutput("rtmp", (StreamTarget("rtmp://host/app/key", "rtmp://host/app/{...}"),))
IMAGES = ImageOutput("", "i", 10, 0, 0, "index", STORAGE)
SOCKET = WebsocketOutput("ws://host", "ws://host")


def plan(*outputs: Output, passthrough: Passthrough = Passthrough.IF_POSSIBLE) -> Plan:
    source = MediaSource("room", "ws://host", "token")
    return Plan("EG_1", source, outputs, None, None, passthrough=passthrough)


@pytest.mark.parametrize(
    ("mimes", "outputs", "expected"),
    [
        (["video/H264", "audio/opus"], [file(Container.MP4)], True),
        (["video/VP8", "audio/opus"], [file(Container.MP4)], False),
        (["video/VP8", "audio/opus"], [file(Container.WEBM)], True),
        (["video/VP9", "audio/red"], [file(None)], True),
        (["video/H264", "audio/opus"], [file(Container.MP4), segments(Container.TS)], False),
        (["video/H264", "audio/opus"], [segments(Container.FMP4)], True),
        (["video/H264", "audio/opus"], [file(Container.MP4), STREAM], False),
        (["video/H264", "audio/opus"], [file(Container.MP4), IMAGES], False),
        (["audio/opus", "audio/opus"], [file(Container.OGG)], False),
        (["audio/PCMU"], [file(Container.OGG)], False),
        (["video/unheard-of"], [file(None)], False),
        ([], [file(None)], False),
        (["video/H264"], [], False),
    ],
)
def test_passthrough_possible(mimes: list[str], outputs: list[Output], expected: bool) -> None:
    assert passthrough_possible(plan(*outputs), [track(mime) for mime in mimes]) is expected


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (plan(file(None)), True),
        (plan(file(Container.WEBM)), False),
        (plan(file(None), passthrough=Passthrough.NEVER), False),
        (plan(file(Container.WEBM), passthrough=Passthrough.ALWAYS), True),
        (plan(SOCKET, passthrough=Passthrough.ALWAYS), False),
    ],
)
def test_wants_packets(chosen: Plan, expected: bool) -> None:
    assert wants_packets(chosen, [track("video/H264")]) is expected


@pytest.mark.parametrize(
    ("codecs", "container"),
    [
        ([VideoCodec.H264], Container.MP4),
        ([AudioCodec.OPUS], Container.OGG),
        ([VideoCodec.VP8], Container.WEBM),
        ([VideoCodec.H264, AudioCodec.OPUS], Container.MP4),
        ([VideoCodec.VP9, AudioCodec.OPUS], Container.WEBM),
        ([VideoCodec.VP8, AudioCodec.PCMU], None),
    ],
)
def test_container_for(codecs: list[AudioCodec | VideoCodec], container: Container | None) -> None:
    assert container_for(codecs) is container


@pytest.mark.parametrize(
    ("mime", "codec"),
    [("audio/red", AudioCodec.OPUS), ("video/AV1", VideoCodec.AV1), ("audio/PCMA", AudioCodec.PCMA)],
)
def test_codec_of(mime: str, codec: AudioCodec | VideoCodec) -> None:
    assert codec_of(track(mime)) is codec


@pytest.mark.parametrize(
    ("mimes", "output", "codec", "said"),
    [
        (["audio/opus"], SOCKET, None, ""),
        (["video/VP8"], SOCKET, None, "track TR_video/VP8 is video; websocket_url takes audio tracks only"),
        (["video/VP8", "audio/opus"], file(Container.WEBM), VideoCodec.VP8, ""),
        (["video/H264", "audio/opus"], file(Container.MP4), VideoCodec.H264, ""),
        (["video/VP8", "audio/opus"], file(Container.MP4), VideoCodec.H264, ""),
        (["video/H264", "audio/opus"], file(Container.WEBM), VideoCodec.VP8, ""),
        ([], file(Container.WEBM), VideoCodec.VP8, ""),
    ],
)
def test_what_only_the_room_could_tell_is_refused(
    mimes: list[str], output: Output, codec: VideoCodec | None, said: str
) -> None:
    video = VideoEncoding(1280, 720, 30, 3000, 4.0, codec) if codec else None
    wanted = msgspec.structs.replace(plan(output), video=video)
    tracks = [track(mime) for mime in mimes]
    if not said:
        refuse_unsuitable(wanted, tracks)
        return
    with pytest.raises(EgressError) as refused:
        refuse_unsuitable(wanted, tracks)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("mime", "encoding", "expected"),
    [
        ("video/H264", VideoCodec.H264, False),
        ("video/AV1", VideoCodec.H264, False),
        ("video/VP8", VideoCodec.H264, True),
        ("video/AV1", VideoCodec.VP8, False),
    ],
)
def test_sound_does_not_wait_for_a_picture_that_is_muted(
    mime: str, encoding: VideoCodec, expected: bool
) -> None:
    muted = replace(track(mime), muted=True)
    asked = msgspec.structs.replace(plan(file(None)), video=VideoEncoding(640, 360, 30, 500, 4.0, encoding))
    assert wants_packets(asked, [muted, track("audio/opus")]) is expected
    assert wants_packets(asked, [track(mime), track("audio/opus")])
    assert wants_packets(
        msgspec.structs.replace(asked, passthrough=Passthrough.ALWAYS), [muted, track("audio/opus")]
    )
