"""The option tracks_file: a file of tracks beside what is composed of a room."""

from dataclasses import replace
from typing import Any

import pytest
from livekit.protocol import egress as wire

from openegress.core import info as transitions
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.events import FileUpdate
from openegress.core.plan import TracksFile, decode, encode
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.request import options
from openegress.request.initial_info import initial
from openegress.request.options import OptionDefaults, Options
from openegress.request.validate import plan_of
from tests.unit.test_request_options import CONTEXT, FILE, plan, room


def web() -> wire.WebEgressRequest:
    return wire.WebEgressRequest(url="https://e.example", file_outputs=FILE)


TRACKS_FILE = "tracks_file=t/{room_name}.mkv"
SEGMENTS = wire.SegmentedFileOutput(filename_prefix="hls/a")
TRACKS = TracksFile("t/r.mkv", Container.MKV, CONTEXT.storage)


@pytest.mark.parametrize(
    ("outputs", "place"),
    [
        ({"file_outputs": FILE, "segment_outputs": [SEGMENTS]}, 2),
        ({"segment_outputs": [SEGMENTS]}, 0),
        ({"stream_outputs": [wire.StreamOutput(protocol="RTMP", urls=["rtmp://h/a/k"])]}, 0),
    ],
)
def test_tracks_beside_a_picture_are_the_last_output_or_the_only_file(
    outputs: dict[str, Any], place: int
) -> None:
    body = wire.RoomCompositeEgressRequest(room_name="r", layout=f"grid?{TRACKS_FILE}", **outputs)
    request = rpc.StartEgressRequest(egress_id="EG_1", room_composite=body)
    found = plan_of(request, CONTEXT)
    assert found.outputs.index(TRACKS) == place
    assert decode(encode(found)) == found
    info = initial(request, found, 1)
    update = FileUpdate(place, filename="t/r.mkv", size_bytes=5)
    told = transitions.apply(info, update, 2).file_results
    assert [each.size for each in told if each.filename == "t/r.mkv"] == [5]
    assert len(told) == 1 + bool(place)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("tracks_file=a.webm", Code.INVALID_ARGUMENT, '"a.webm" has to end in .mkv, .mcap, .mp4'),
        ("tracks_file=a.mka", Code.INVALID_ARGUMENT, '"a.mka" has to end in .mkv'),
        ("tracks_file=x.mp4", Code.INVALID_ARGUMENT, "is the name of the recording beside it"),
        ("tracks_file=a.mkv&split_every=1h", Code.UNIMPLEMENTED, "split_every beside tracks_file"),
        ("tracks_file=/etc/a.mkv", Code.INVALID_ARGUMENT, "lies outside the server's output_root, "),
    ],
)
def test_a_file_of_tracks_that_cannot_be(query: str, code: Code, text: str) -> None:
    with pytest.raises(EgressError) as caught:
        plan(room(f"grid?{query}"))
    assert caught.value.code is code and text in caught.value.message


def test_tracks_are_kept_beside_what_is_composed_here_alone() -> None:
    with pytest.raises(EgressError, match="tracks_file of anything but a room in one of this server's"):
        plan(options.carry(web(), Options(tracks_file="a.mkv")))
    configured = replace(CONTEXT, options=OptionDefaults(tracks_file="a.mkv"))
    assert not any(isinstance(each, TracksFile) for each in plan(web(), configured).outputs)
    assert any(isinstance(each, TracksFile) for each in plan(room(), configured).outputs)
    found = plan(room(), replace(CONTEXT, room_metadata='{"egress": {"tracks_file": "a.mkv"}}'))
    assert not any(isinstance(each, TracksFile) for each in found.outputs)
    assert any("tracks_file is for requests and configuration" in each for each in found.notices)
