"""Manifests, and what outputs choose from the codecs they are given."""

import json
from fractions import Fraction

import pytest

from openegress.core.codecs import AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.media import StreamFormat
from openegress.output.content_types import container_for, content_type
from openegress.output.manifest import FileRecord, Header, ImageRecord, PlaylistRecord, Records, build

START_NS = 1_700_000_000_123_456_789


def test_a_manifest_lists_what_all_outputs_stored() -> None:
    text = build(
        Header("EG_1", room_id="RM_1", room_name="Zoë", started_at_ns=START_NS, ended_at_ns=START_NS + 5),
        [
            Records(files=(FileRecord("a.mp4", "s3://b/a.mp4"), FileRecord("b", "plain", "no key to sign"))),
            Records(playlists=(PlaylistRecord("L", (FileRecord("s_0.ts", "L0"),)),)),
            Records(images=(ImageRecord("i.jpeg", START_NS, "LI"),)),
        ],
    )
    assert json.loads(text) == {
        "egress_id": "EG_1",
        "room_id": "RM_1",
        "room_name": "Zoë",
        "started_at": START_NS,
        "ended_at": START_NS + 5,
        "files": [
            {"filename": "a.mp4", "location": "s3://b/a.mp4"},
            {"filename": "b", "location": "plain", "presign_error": "no key to sign"},
        ],
        "playlists": [{"location": "L", "segments": [{"filename": "s_0.ts", "location": "L0"}]}],
        "images": [{"filename": "i.jpeg", "timestamp": "2023-11-14T22:13:20.123456789Z", "location": "LI"}],
    }


def test_what_is_not_known_is_left_out() -> None:
    assert json.loads(build(Header("EG_1"), [])) == {"egress_id": "EG_1"}


def fmt(codec: AudioCodec | VideoCodec) -> StreamFormat:
    kind = MediaKind.VIDEO if isinstance(codec, VideoCodec) else MediaKind.AUDIO
    return StreamFormat(kind, codec, Fraction(1, 90_000), None, 0)


@pytest.mark.parametrize(
    ("codecs", "container"),
    [
        ([AudioCodec.OPUS], Container.OGG),
        ([VideoCodec.H264], Container.MP4),
        ([VideoCodec.VP8], Container.WEBM),
        ([VideoCodec.H264, AudioCodec.OPUS], Container.MP4),
        ([VideoCodec.VP9, AudioCodec.OPUS], Container.WEBM),
        ([VideoCodec.AV1, AudioCodec.OPUS], Container.MP4),
        ([AudioCodec.AAC], Container.MP4),
    ],
)
def test_codecs_decide_the_container(codecs: list[AudioCodec | VideoCodec], container: Container) -> None:
    assert container_for([fmt(codec) for codec in codecs]) is container


def test_codecs_that_no_container_takes_together_are_refused_by_name() -> None:
    with pytest.raises(EgressError, match="vp8 and aac") as caught:
        container_for([fmt(VideoCodec.VP8), fmt(AudioCodec.AAC)])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_content_types_know_sound_from_pictures() -> None:
    assert content_type(Container.MP4, [fmt(AudioCodec.AAC)]) == "audio/mp4"
    assert content_type(Container.MP4, [fmt(VideoCodec.H264), fmt(AudioCodec.AAC)]) == "video/mp4"
