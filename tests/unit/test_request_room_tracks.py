"""The layout `tracks`: what such a request becomes, and what it may not ask for."""

from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from google.protobuf import json_format

from openegress.core import plan as parts
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.passthrough import Passthrough
from openegress.core.plan import TracksSource
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.values import LengthOrSize
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.naming import Distinct
from openegress.request.options import OptionDefaults
from openegress.request.validate import Context, RequestKind, plan_of, request_kind

CONTEXT = Context(
    now_ns=1_739_527_024_816_835_412,
    storage=StoragePlan(backend=LocalStorage(root="/out")),
    ws_url="ws://livekit:7880",
    make_token=lambda egress_id, room: "T",
    zone=UTC,
)
PATH = "meeting.mkv"


def room(path: str = "meeting.mkv", file: dict[str, Any] | None = None, **body: Any) -> StartEgressRequest:
    files = {"file_outputs": [{"filepath": path} | (file or {})]}
    request = {"room_name": "demo", "layout": "tracks"} | files | body
    return json_format.ParseDict({"egress_id": "EG_1", "room_composite": request}, StartEgressRequest())


def plan(request: StartEgressRequest, context: Context = CONTEXT) -> parts.Plan:
    found = plan_of(request, context)
    assert parts.decode(parts.encode(found)) == found
    return found


def file_of(found: parts.Plan) -> parts.FileOutput:
    (output,) = found.outputs
    assert isinstance(output, parts.FileOutput)
    return output


def test_every_track_goes_into_one_file() -> None:
    found = plan(room())
    assert found.source == TracksSource("demo", "ws://livekit:7880", "T", True, True)
    assert (file_of(found).filepath, file_of(found).container) == (PATH, Container.MKV)
    assert found.passthrough is Passthrough.ALWAYS and found.video is None and found.audio is None
    assert found.notices == ()
    assert request_kind(room()) is RequestKind.ROOM_TRACKS
    assert request_kind(room(audio_only=True)) is RequestKind.ROOM_TRACKS


@pytest.mark.parametrize(
    ("path", "body", "name", "audio", "video"),
    [
        ("a.mkv", {"audio_only": True}, "a.mkv", True, False),
        ("a.mkv", {"video_only": True}, "a.mkv", False, True),
        ("a.mka", {"audio_only": True}, "a.mka", True, False),
        ("a.MKV", {}, "a.mkv", True, True),
        ("a.mcap", {}, "a.mcap", True, True),
        ("a.MCAP", {}, "a.mcap", True, True),
        ("a.mcap", {"audio_only": True}, "a.mcap", True, False),
        ("a.mcap", {"video_only": True}, "a.mcap", False, True),
        ("a", {}, "a.mkv", True, True),
        ("a", {"audio_only": True}, "a.mka", True, False),
        ("v1.2", {}, "v1.2.mkv", True, True),
        ("", {}, "demo-2025-02-14T095704.mkv", True, True),
        ("of/", {}, "of/demo-2025-02-14T095704.mkv", True, True),
    ],
)
def test_the_name_says_what_is_in_it(
    path: str, body: dict[str, Any], name: str, audio: bool, video: bool
) -> None:
    found = plan(room(path, **body))
    assert file_of(found).filepath == f"{name}"
    assert isinstance(found.source, TracksSource)
    assert (found.source.audio, found.source.video) == (audio, video)
    assert found.notices == ()


@pytest.mark.parametrize(
    ("path", "body", "notice"),
    [
        ("a.mkv", {"preset": "H264_1080P_30"}, "preset and advanced have no effect"),
        ("a.mkv", {"advanced": {"width": 640}}, "preset and advanced have no effect"),
        ("a.mkv", {"audio_mixing": "DUAL_CHANNEL_AGENT"}, "audio_mixing has no effect"),
        ("a.mka", {}, "no picture is recorded"),
        ("a.mp4", {}, "no browser plays VP8 from it"),
    ],
)
def test_what_has_no_effect_is_told(path: str, body: dict[str, Any], notice: str) -> None:
    (told,) = plan(room(path, **body)).notices
    assert notice in told


@pytest.mark.parametrize(
    ("path", "name"), [("a", "a.mcap"), ("a.mcap", "a.mcap"), ("a.mkv", "a.mcap"), ("of/", None)]
)
def test_mcap_by_the_type_of_the_file(path: str, name: str | None) -> None:
    """A number that the SDKs of today do not know yet."""
    file = file_of(plan(room(path, {"file_type": 4})))
    assert file.container is Container.MCAP
    assert file.filepath == (name or "of/demo-2025-02-14T095704.mcap")


@pytest.mark.parametrize(
    ("path", "file", "name"), [("a.mp4", {}, "a.mp4"), ("a", {"file_type": "MP4"}, "a.mp4")]
)
def test_mp4_by_name_or_type(path: str, file: dict[str, str], name: str) -> None:
    asked = file_of(plan(room(path, file)))
    assert (asked.container, asked.filepath, asked.split) == (Container.MP4, name, None)
    configured = replace(CONTEXT, options=OptionDefaults(split_every=LengthOrSize(length=3600.0)))
    assert file_of(plan(room(path, file), configured)).split is None


def test_passthrough_says_the_same_and_needs_no_notice() -> None:
    assert plan(room(preset="PASSTHROUGH")).notices == ()


STREAM: dict[str, Any] = {"stream_outputs": [{"protocol": "RTMP", "urls": ["rtmp://h/a/k"]}]}
SEGMENTS: dict[str, Any] = {"segment_outputs": [{"filename_prefix": "a"}]}


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (room("a.mp4", layout="tracks?split_every=1h"), Code.UNIMPLEMENTED, "split_every of a file of many"),
        (room(file={"file_type": "OGG"}), Code.INVALID_ARGUMENT, "file_type OGG holds one track"),
        (room(file={"file_type": 9}), Code.INVALID_ARGUMENT, "file_type"),
        (room("a.webm"), Code.INVALID_ARGUMENT, "ends in .webm, which cannot hold all tracks of a room"),
        (room("a.ogg", audio_only=True), Code.INVALID_ARGUMENT, "ends in .ogg"),
        (
            room("a.mka", video_only=True),
            Code.INVALID_ARGUMENT,
            "and no sound is asked for",
        ),
        (room(**STREAM), Code.INVALID_ARGUMENT, "takes no streams"),
        (room(**STREAM, **SEGMENTS), Code.INVALID_ARGUMENT, "takes no segments nor streams"),
        (room(image_outputs=[{}]), Code.INVALID_ARGUMENT, "takes no images"),
        (room(file_outputs=[], **SEGMENTS), Code.INVALID_ARGUMENT, "takes no segments"),
        (room(audio_only=True, video_only=True), Code.INVALID_ARGUMENT, "audio_only and video_only"),
    ],
)
def test_what_cannot_be_is_refused(request_: StartEgressRequest, code: Code, text: str) -> None:
    with pytest.raises(EgressError) as refused:
        plan_of(request_, CONTEXT)
    assert refused.value.code is code
    assert text in refused.value.message


def test_options_in_the_query_of_the_layout() -> None:
    found = plan(room(layout="tracks?max_duration=1h&stop_when_empty=30s"))
    assert isinstance(found.source, TracksSource)
    assert (found.end_rules.max_duration_s, found.end_rules.stop_when_empty_s) == (3600, 30)


@pytest.mark.parametrize("body", [{"custom_base_url": "https://t.example"}, {}])
def test_a_page_has_its_own_layouts(body: dict[str, Any]) -> None:
    base = "" if body else "https://own.example"
    found = plan(room("a.mp4", **body), replace(CONTEXT, template_base=base))
    assert isinstance(found.source, parts.TemplateSource)
    assert found.source.layout == "tracks"


def test_through_v2() -> None:
    request = {
        "room_name": "demo",
        "template": {"layout": "tracks"},
        "outputs": [{"file": {"filepath": "meeting.mkv"}}],
        "preset": "PASSTHROUGH",
    }
    found = plan(json_format.ParseDict({"egress_id": "EG_1", "egress": request}, StartEgressRequest()))
    assert isinstance(found.source, TracksSource)
    assert file_of(found).filepath == PATH


def test_a_name_that_is_taken_gets_its_mark_before_the_extension() -> None:
    found = plan(room(), replace(CONTEXT, distinct=Distinct.ALL))
    assert file_of(found).filepath == "meeting-EG_1.mkv"


def test_elsewhere_such_an_ending_is_part_of_the_name() -> None:
    """As upstream has it."""
    assert file_of(plan(room(layout="grid"))).filepath == "meeting.mkv.mp4"
