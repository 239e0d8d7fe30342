"""From a request for a clip to its plan: where it is read, where it goes, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    FileInfo,
    RoomCompositeEgressRequest,
    S3Upload,
    SegmentedFileOutput,
    SegmentedFileProtocol,
    SegmentsInfo,
)

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.plan import FileOutput, Plan, SegmentOutput, Split, TracksFile, WebSource
from openegress.core.render import Render
from openegress.core.restart import Restart
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.core.units import S
from openegress.proto.openegress_control_pb2 import ClipRequest
from openegress.request import clips
from openegress.request.context import Context

STORAGE = StoragePlan(LocalStorage("/out", private=("/out/spool",)), prefix="p")
CONTEXT = Context(now_ns=0, storage=STORAGE)
THEIRS = StoragePlan(S3Storage("theirs", "key", "secret"))


def asked(**fields: str) -> ClipRequest:
    return ClipRequest(egress_id="EG_1", **({"last": "30s"} | fields))


def ended(**fields: Any) -> EgressInfo:
    files = [FileInfo(filename="a/film.mp4", location="/out/a/film.mp4", duration=90, size=7)]
    request = RoomCompositeEgressRequest(file_outputs=[EncodedFileOutput(filepath="a/film")])
    told: dict[str, Any] = {"room_composite": request, "file_results": files, "room_name": "r/../s"}
    return EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_COMPLETE, **(told | fields))


def running(*outputs: FileOutput | SegmentOutput) -> Plan:
    return Plan("EG_1", WebSource("http://page"), outputs, None, None, name_values={"room_name": "hall"})


def test_of_one_that_records() -> None:
    plan = running(FileOutput("a/film.mp4", Container.MP4, THEIRS))
    made = clips.of_running(asked(), ended(), plan, Path("/spool"), "CL_1")
    assert made.left_in == "/spool/EG_1/file-0"
    assert (made.last_ns, made.begin_ns, made.end_ns) == (30_000_000_000, None, None)
    assert made.target.storage == THEIRS
    assert made.target.filepath == "a/film-clip-{from}-{to}"
    assert made.taken == ("a/film.mp4",)
    named = clips.of_running(asked(filepath="{room_name}/x.mp4"), ended(), plan, Path("/spool"), "CL_1")
    assert named.target.filepath == "hall/x.mp4"
    folder = clips.of_running(asked(filepath="x/"), ended(), plan, Path("/spool"), "CL_1")
    assert folder.target.filepath == "x/film-clip-{from}-{to}"


def test_of_one_that_is_split_while_it_records() -> None:
    files = [
        FileInfo(filename="a/film-00001.mp4", location="/out/a/film-00001.mp4", duration=90, size=7),
        FileInfo(filename="a/film-00002.mp4", duration=40, size=3),
    ]
    plan = running(FileOutput("a/film.mp4", Container.MP4, STORAGE, split=Split(every_s=60.0)))
    made = clips.of_running(asked(), ended(file_results=files), plan, Path("/spool"), "CL_1")
    assert made.left_in == "/spool/EG_1/file-0"
    assert [(part.length_ns, part.size_bytes) for part in made.stored] == [(90, 7), (40, 0)]
    assert set(made.taken) == {"a/film-00001.mp4", "a/film-00002.mp4"}


def test_of_one_that_has_ended() -> None:
    made = clips.of_ended(asked(), ended(), CONTEXT, "CL_1")
    assert made.left_in == ""
    assert [(part.path, part.length_ns, part.size_bytes) for part in made.stored] == [("a/film.mp4", 90, 7)]
    assert made.recorded.storage == made.target.storage == STORAGE


@pytest.mark.parametrize(
    ("protocol", "container"),
    [
        (SegmentedFileProtocol.HLS_PROTOCOL, Container.TS),
        (SegmentedFileProtocol.HLS_FMP4_PROTOCOL, Container.FMP4),
    ],
)
def test_of_segments(protocol: SegmentedFileProtocol, container: Container) -> None:
    request = RoomCompositeEgressRequest(segment_outputs=[SegmentedFileOutput(protocol=protocol)])
    segments = [SegmentsInfo(playlist_name="a/all.m3u8", playlist_location="/out/a/all.m3u8")]
    info = ended(room_composite=request, file_results=[], segment_results=segments)
    made = clips.of_ended(asked(), info, CONTEXT, "CL_1")
    assert isinstance(made.recorded, SegmentOutput)
    assert (made.playlist, made.recorded.container) == ("a/all.m3u8", container)
    assert made.target.filepath == "a/all-clip-{from}-{to}"


def test_credentials_of_a_request_are_not_kept() -> None:
    theirs = EncodedFileOutput(s3=S3Upload(bucket="b", access_key="{access_key}"))
    info = ended(room_composite=RoomCompositeEgressRequest(file_outputs=[theirs]))
    with pytest.raises(EgressError) as refused:
        clips.of_ended(asked(), info, CONTEXT, "CL_1")
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert "credentials of its own request" in refused.value.message


def test_the_file_of_a_rooms_tracks_is_not_what_is_clipped() -> None:
    tracks = FileInfo(filename="tracks.mp4", location="/out/tracks.mp4", duration=90, size=7)
    beside = clips.of_ended(asked(), ended(file_results=[*ended().file_results, tracks]), CONTEXT, "CL_1")
    assert [part.path for part in beside.stored] == ["a/film.mp4"]
    segments = [SegmentsInfo(playlist_name="a/all.m3u8", playlist_location="/out/a/all.m3u8")]
    request = RoomCompositeEgressRequest(segment_outputs=[SegmentedFileOutput()])
    info = ended(room_composite=request, file_results=[tracks], segment_results=segments)
    assert clips.of_ended(asked(), info, CONTEXT, "CL_1").playlist == "a/all.m3u8"
    cut = SegmentOutput("a/", "s", "all.m3u8", "", 4, Container.TS, False, STORAGE)
    plan = running(TracksFile("tracks.mp4", Container.MP4, STORAGE), cut)
    assert clips.of_running(asked(), info, plan, Path("/spool"), "CL_1").recorded == cut
    parts = [
        FileInfo(filename=f"film-0000{number}.mp4", location=f"/out/film-0000{number}.mp4")
        for number in (1, 2)
    ]
    split = clips.of_ended(asked(), ended(file_results=parts), CONTEXT, "CL_1")
    assert len(split.stored) == 2


def test_of_one_that_went_on_in_another_file() -> None:
    """The wall clock of its second part knows of the gap."""
    info = EgressInfo(
        status=EgressStatus.EGRESS_COMPLETE,
        room_composite=RoomCompositeEgressRequest(file_outputs=[EncodedFileOutput(filepath="a.webm")]),
        file_results=[
            FileInfo(filename="a.webm", location="/a.webm", started_at=1000 * S, duration=10 * S),
            FileInfo(filename="a-00002.webm", location="/b", started_at=1060 * S, duration=10 * S),
        ],
    )
    plan = clips.of_ended(asked(), info, CONTEXT, "CL_1")
    assert [part.path for part in plan.stored] == ["a.webm", "a-00002.webm"]
    assert clips.started_at_ns(info, 9 * S) == 1000 * S
    assert clips.started_at_ns(info, 12 * S) == 1050 * S
    assert clips.started_at_ns(EgressInfo(), 0) == 0


def test_the_wall_clock_of_one_that_runs_knows_of_each_gap_once() -> None:
    """A part that is stored states when it began; the growing one is not stored, and begins after a gap."""
    gaps = (Restart(1010 * S, 1060 * S, 10 * S), Restart(1070 * S, 1075 * S, 20 * S))
    parts = [
        FileInfo(filename="a.mkv", location="/a.mkv", started_at=1000 * S, duration=10 * S),
        FileInfo(filename="a-00002.mkv", location="/b", started_at=1060 * S, duration=10 * S),
        FileInfo(filename="a-00003.mkv", started_at=1075 * S),
    ]
    request = RoomCompositeEgressRequest(file_outputs=[EncodedFileOutput(filepath="a.mkv")])
    info = EgressInfo(room_composite=request, file_results=parts)
    walls = [at_s + clips.started_at_ns(info, at_s * S, gaps) // S for at_s in (9, 12, 22)]
    assert walls == [1009, 1062, 1077]
    whole = EgressInfo(room_composite=request, file_results=parts[:1])
    assert [at_s + clips.started_at_ns(whole, at_s * S, gaps) // S for at_s in (9, 12)] == [1009, 1062]


def test_of_one_that_runs_in_another_file() -> None:
    files = [
        FileInfo(filename="a.mkv", location="/out/a.mkv", duration=90, size=7),
        FileInfo(filename="a-00002.mkv"),
    ]
    tracks = FileOutput("a.mkv", Container.MKV, STORAGE)
    made = clips.of_running(asked(), ended(file_results=files), running(tracks), Path("/spool"), "CL_1")
    assert [part.path for part in made.stored] == ["a.mkv", "a-00002.mkv"]
    beside = running(tracks, TracksFile("b.mkv", Container.MKV, STORAGE))
    assert clips.of_running(asked(), ended(file_results=files), beside, Path("/spool"), "CL_1").stored == ()


def test_what_is_composed_later_is_clipped_later() -> None:
    plan = msgspec.structs.replace(
        running(FileOutput("a/film.mp4", Container.MP4, STORAGE)), render=Render.DEFERRED
    )
    with pytest.raises(EgressError, match="composed after it was recorded") as refused:
        clips.of_running(asked(), ended(), plan, Path("/spool"), "CL_1")
    assert refused.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize("path", ["/etc/clip", "/out/spool/EG_1/clip"])
def test_a_clip_stays_in_the_output_root(path: str) -> None:
    plan = running(FileOutput("a/film.mp4", Container.MP4, STORAGE))
    with pytest.raises(EgressError) as refused:
        clips.of_ended(asked(filepath=path), ended(), CONTEXT, "CL_1")
    assert refused.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(EgressError) as refused:
        clips.of_running(asked(filepath=path), ended(), plan, Path("/spool"), "CL_1")
    assert refused.value.code is Code.INVALID_ARGUMENT


def test_what_a_room_is_called_leads_nowhere_else() -> None:
    made = clips.of_ended(asked(filepath="{room_name}/x"), ended(), CONTEXT, "CL_1")
    assert made.target.filepath.startswith("r/s~") and made.target.filepath.endswith("/x")


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (ended(file_results=[]), Code.FAILED_PRECONDITION),
        (ended(file_results=[FileInfo(filename="a")]), Code.FAILED_PRECONDITION),
    ],
)
def test_nothing_was_stored(info: EgressInfo, code: Code) -> None:
    with pytest.raises(EgressError) as refused:
        clips.of_ended(asked(), info, CONTEXT, "CL_1")
    assert refused.value.code is code


@pytest.mark.parametrize("last", ["soon", "-3s", "nan", "0", "30", "2h"])
def test_bad_lengths(last: str) -> None:
    with pytest.raises(EgressError) as refused:
        clips.wish_of(asked(last=last))
    assert "last" in refused.value.message or "span" in refused.value.message


def test_where_files_are() -> None:
    assert not clips.is_within_reach(ended(), CONTEXT)
    assert clips.is_within_reach(ended(), Context(now_ns=0, storage=THEIRS))
