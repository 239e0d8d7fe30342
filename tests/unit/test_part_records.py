"""The record, the plan and the events of an egress of several parts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo

from openegress.core import part_records
from openegress.core import plan as plans
from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.events import StreamStatus, StreamUpdate
from openegress.core.live_streams import AddedTarget, LiveStreams
from openegress.core.part import Part
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import (
    FileOutput,
    ImageOutput,
    Limits,
    Plan,
    SegmentOutput,
    Split,
    StreamOutput,
    StreamTarget,
    TracksFile,
    WebSource,
)
from openegress.core.restart import Restart
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.core.units import S
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.initial_info import initial
from openegress.request.later_part import later_part
from openegress.request.part_names import stored_name
from openegress.store.handovers import HandoverOffer

HERE, THERE = StoragePlan(LocalStorage("/here")), StoragePlan(LocalStorage("/there"))
BUCKET = StoragePlan(S3Storage("bucket"))


def plan_with(storage: StoragePlan = THERE) -> Plan:
    outputs = (
        FileOutput("a/film.mp4", Container.MP4, storage),
        SegmentOutput("b/", "seg", "list.m3u8", "live.m3u8", 2, Container.TS, False, storage),
        ImageOutput("c/", "pic", 1, 0, 0, "index", storage),
    )
    return Plan("EG_1", WebSource("https://example.com"), outputs, None, None)


def results(plan: Plan) -> EgressInfo:
    return initial(StartEgressRequest(egress_id="EG_1"), plan, 1)


def begin(info: EgressInfo, at_ns: int) -> None:
    for results in (info.file_results, info.segment_results, info.image_results):
        results[-1].started_at = at_ns


@given(st.integers(1, 5))
def test_parts_are_joined_as_they_were_taken_apart(count: int) -> None:
    own = results(plan_with())
    info, lost_at_ns = results(plan_with()), 0
    for number in range(1, count):
        begin(info, 10 * number * S)
        lost_at_ns = (10 * number + 2) * S
        info = part_records.extended(info, own, lost_at_ns)
        info.file_results[number].filename = f"{number}.mp4"
    earlier, last = part_records.split(info, lost_at_ns)
    assert len(earlier.file_results) == count - 1
    assert (len(last.file_results), len(last.segment_results), len(last.image_results)) == (1, 1, 1)
    assert part_records.joined(earlier, last) == info


def test_a_part_ends_where_its_worker_was_lost() -> None:
    info = EgressInfo(file_results=[FileInfo(filename="a.mp4", started_at=3 * S)])
    kept = part_records.extended(info, EgressInfo(file_results=[FileInfo(filename="b.mp4")]), 8 * S)
    lost, own = kept.file_results
    assert (lost.ended_at, lost.duration) == (8 * S, 5 * S)
    assert (own.filename, own.ended_at) == ("b.mp4", 0)


def test_whether_a_record_has_been_told_of_a_part() -> None:
    """Its worker is started again before, or after, it has told of it, or recorded something."""
    own, info = results(plan_with()), results(plan_with())
    begin(info, 1 * S)
    assert not part_records.has_part(info, 8 * S)
    known = part_records.extended(info, own, 8 * S)
    assert part_records.has_part(known, 8 * S)
    begin(known, 15 * S)
    assert part_records.has_part(known, 8 * S)
    assert not part_records.has_part(known, 22 * S)


@given(st.integers(1, 4), st.integers(0, 4))
def test_any_number_of_files_belongs_to_the_part_that_began_them(before: int, after: int) -> None:
    """Each part is split, and the lost worker began and reported another file after its last beat."""
    own = EgressInfo(file_results=[FileInfo(filename="film-00002-00001.mp4")])
    info = EgressInfo(
        file_results=[FileInfo(filename=f"{n}.mp4", started_at=(n + 1) * S) for n in range(before)]
    )
    lost_at_ns = before * S - S // 2
    known = part_records.extended(info, own, lost_at_ns)
    begun_ns = lost_at_ns + 7 * S
    for number in range(after):
        if number:
            known.file_results.add(filename=f"film-00002-{number}.mp4")
        known.file_results[-1].started_at = begun_ns + number * S
    earlier, last = part_records.split(known, lost_at_ns)
    assert len(earlier.file_results) == before and len(last.file_results) == max(1, after)
    assert part_records.joined(earlier, last) == known


def test_a_part_of_which_nothing_was_recorded_has_no_results() -> None:
    """The worker that took over was lost before its first picture; another one, and then it, come back."""
    own, info = results(plan_with()), results(plan_with())
    begin(info, 1 * S)
    second = part_records.extended(info, own, 8 * S)
    third = part_records.extended(second, own, 16 * S)
    assert [each.started_at for each in third.file_results] == [1 * S, 0]
    assert part_records.with_part(third, own) == third


def test_what_a_part_has_become_is_in_its_place() -> None:
    info = EgressInfo(
        status=EgressStatus.EGRESS_ACTIVE,
        file_results=[FileInfo(filename="a.mp4", started_at=1), FileInfo(filename="b.mp4", started_at=5)],
    )
    part = EgressInfo(file_results=[FileInfo(filename="a.mp4", started_at=1, location="/a.mp4", size=7)])
    known = part_records.with_part(info, part)
    assert [each.location for each in known.file_results] == ["/a.mp4", ""]
    assert known.status == EgressStatus.EGRESS_ACTIVE
    assert part_records.with_part(known, part) == known
    worse = EgressInfo(file_results=[FileInfo(filename="a.mp4", started_at=1)])
    assert part_records.with_part(known, worse) == known
    unknown = EgressInfo(file_results=[FileInfo(filename="c.mp4", started_at=3, location="/c.mp4")])
    assert [each.filename for each in part_records.with_part(info, unknown).file_results] == [
        "a.mp4",
        "c.mp4",
        "b.mp4",
    ]


def test_a_later_part_has_names_of_its_own() -> None:
    part = Part(1, 0)
    plan = later_part(plan_with(), part, 0, 0, HERE)
    assert plan is not None and plan.part == part
    file, segments, images = plan.outputs
    assert isinstance(file, FileOutput) and file.filepath == "a/film-00002.mp4"
    assert isinstance(segments, SegmentOutput) and isinstance(images, ImageOutput)
    assert (segments.directory, segments.prefix) == ("b/", "seg-00002")
    assert (segments.playlist, segments.live_playlist) == ("list-00002.m3u8", "live-00002.m3u8")
    assert (images.directory, images.prefix) == ("c/", "pic-00002")
    assert file.storage == segments.storage == images.storage == HERE


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (FileOutput("a.mp4", Container.MP4, HERE, split=Split(60.0)), "a-00002.mp4"),
        (FileOutput("{part}/a.mp4", Container.MP4, HERE, split=Split(60.0)), "00002-{part}/a.mp4"),
        (FileOutput("a.webm", Container.WEBM, HERE), "a-00002-00001.webm"),
        (FileOutput("track", None, HERE), "track-00002-00001"),
        (TracksFile("a.mp4", Container.MP4, HERE), "a-00002-00001.mp4"),
    ],
)
def test_files_with_numbers_of_their_own_have_both(output: FileOutput, name: str) -> None:
    """The second file of the first worker is a-00002.webm, and that of the second one a-00002-00002.mp4."""
    plan = later_part(msgspec.structs.replace(plan_with(), outputs=(output,)), Part(1, 0), 0, 0, HERE)
    assert plan is not None
    (named,) = plan.outputs
    assert isinstance(named, FileOutput) and named.filepath == name


def test_names_of_two_workers_never_meet() -> None:
    """Whatever number of files each makes."""
    for output in (
        FileOutput("a.mp4", Container.MP4, HERE, split=Split(60.0)),
        FileOutput("{part}.mp4", Container.MP4, HERE, split=Split(60.0)),
        FileOutput("a.webm", Container.WEBM, HERE),
    ):
        whole = msgspec.structs.replace(plan_with(), outputs=(output,))
        names = []
        for worker in range(1, 4):
            plan = later_part(whole, Part(worker, 0), 0, 0, HERE)
            assert plan is not None
            (later,) = plan.outputs
            assert isinstance(later, FileOutput)
            names += [stored_name(later, number, later.filepath) for number in range(5)]
        names += [stored_name(output, number, output.filepath) for number in range(5)]
        assert len(names) == len(set(names)) == 20


def test_a_later_part_sends_to_every_url_with_its_number() -> None:
    first, added, again = (StreamTarget(f"rtmp://{n}/key", f"rtmp://{n}/***") for n in "abc")
    output = StreamOutput("rtmp", (first,))
    told = StreamUpdate(0, first.redacted, StreamStatus.FAILED, error="gone")
    streams = LiveStreams().with_target(AddedTarget(0, 1, added)).with_update(told)
    plan = later_part(
        msgspec.structs.replace(plan_with(), outputs=(output,)), Part(1, 0), 0, 0, HERE, streams
    )
    assert plan is not None and plan.part is not None
    assert plan.outputs == (StreamOutput("rtmp", (first, added)),)
    assert plan.part.stream(0, 0) == told and plan.part.stream(0, 1) is None
    live = StreamUpdate(0, first.redacted, StreamStatus.ACTIVE)
    later = streams.changed(LiveStreams().with_update(live).with_target(AddedTarget(0, 2, again)))
    assert later.told == (live,) and later.targets(0, (first,)) == (first, added, again)


def test_a_live_streams_offer_reads_back() -> None:
    streams = LiveStreams().with_target(AddedTarget(0, 1, StreamTarget("rtmp://b/key", "rtmp://b/***")))
    streams = streams.with_update(StreamUpdate(0, "rtmp://b/***", StreamStatus.ACTIVE, stream=1))
    offer = HandoverOffer(plan_with(), streams=streams)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(offer), type=HandoverOffer) == offer
    plan = msgspec.structs.replace(plan_with(), part=Part(1, 0, streams=streams.told))
    assert plans.decode(plans.encode(plan)) == plan


@pytest.mark.parametrize(
    ("planned", "own", "used"), [(THERE, HERE, HERE), (BUCKET, HERE, BUCKET), (THERE, BUCKET, None)]
)
def test_a_disk_is_that_of_the_worker_that_records(
    planned: StoragePlan, own: StoragePlan, used: StoragePlan | None
) -> None:
    plan = later_part(plan_with(planned), Part(1, 0), 0, 0, own)
    assert (plan is None) == (used is None)
    assert plan is None or all(
        each.storage == used for each in plan.outputs if isinstance(each, FileOutput | SegmentOutput)
    )


@pytest.mark.parametrize(("longest_s", "left_s"), [(0.0, 0.0), (60.0, 33.0), (20.0, 1.0)])
def test_limits_go_on_counting(longest_s: float, left_s: float) -> None:
    """30 s until the worker was lost, of which 3 s had been lost before; 5 s later another one has it, with a
    second at least to record something in."""
    rules = EndRules(max_duration_s=longest_s, start_timeout_s=4.0)
    plan = msgspec.structs.replace(plan_with(), end_rules=rules, limits=Limits(duration_s=longest_s))
    part = Part(2, 130 * S, (Restart(110 * S, 113 * S, 0),), recorded_ns=27 * S)
    found = later_part(plan, part, 100 * S, 135 * S, HERE)
    assert found is not None and found.part is not None
    assert found.end_rules == EndRules(max_duration_s=longest_s), "its start is long past"
    assert not longest_s or found.end_rules.max_duration_s - found.part.recorded_ns / S == left_s
    assert found.limits.duration_s == (max(1.0, longest_s - 35) if longest_s else 0.0)


def test_gaps_of_all_parts_are_told_together() -> None:
    told = Part(2, 130 * S, (Restart(110 * S, 113 * S, 0),)).begun(135 * S)
    assert (told.times, told.missing_ns, told.lost_at_ns, told.at_ns) == (2, 8 * S, 130 * S, 135 * S)


@pytest.mark.parametrize(("pause", "missing_s"), [(None, 8), (PauseMode.HOLD, 8), (PauseMode.CUT, 3)])
def test_nothing_is_missing_where_a_pause_goes_on(pause: PauseMode | None, missing_s: int) -> None:
    part = Part(2, 130 * S, (Restart(110 * S, 113 * S, 0),), pause=pause)
    assert part.begun(135 * S).missing_ns == missing_s * S
