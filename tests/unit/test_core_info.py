"""EgressInfo as a function of events: the status machine, texts, codes, results."""

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import EgressInfo, EgressSourceType, EgressStatus, StreamInfo

from openegress.core import info as infos
from openegress.core.errors import Phase
from openegress.core.events import (
    Active,
    AnyEvent,
    AwaitingStart,
    BackupUsed,
    Composing,
    Ended,
    Ending,
    EndReason,
    FileUpdate,
    ImagesUpdate,
    ManifestStored,
    OutputFailed,
    Paused,
    Progress,
    Resumed,
    SegmentsUpdate,
    StreamAdded,
    StreamStatus,
    StreamUpdate,
)
from openegress.core.plan import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.initial_info import initial
from openegress.request.validate import Context, plan_of

CONTEXT = Context(
    now_ns=1_739_527_024_816_835_412,
    storage=StoragePlan(backend=LocalStorage(root="/out")),
    ws_url="ws://livekit:7880",
    template_base="http://127.0.0.1:7980/",
    make_token=lambda egress_id, room: "T",
)
ALL = {
    "room_name": "demo",
    "file_outputs": [{"filepath": "f", "s3": {"bucket": "b", "access_key": "KEY", "secret": "SECRET"}}],
    "segment_outputs": [{"filename_prefix": "d/s", "live_playlist_name": "live"}],
    "image_outputs": [{"filename_prefix": "i"}, {"filename_prefix": "d/j"}],
    "stream_outputs": [{"urls": ["rtmp://h/app/0123456789"]}],
}
STREAM_URL = "rtmp://h/app/{012...789}"
Status = EgressStatus


def begin(body: dict[str, Any] = ALL, kind: str = "room_composite", **outer: Any) -> EgressInfo:
    request = json_format.ParseDict(
        {"egress_id": "EG_1", "room_id": "RM_1", kind: body} | outer, StartEgressRequest()
    )
    return initial(request, plan_of(request, CONTEXT), 100)


def after(info: EgressInfo, *events: AnyEvent) -> EgressInfo:
    for number, event in enumerate(events):
        info = infos.apply(info, event, 1000 + number)
    return info


ACTIVE = Active(at_ns=200)


def ended(reason: EndReason = EndReason.API, error: str = "", code: str = "") -> Ended:
    return Ended(at_ns=900, reason=reason, error=error, code=code)


def no_start(error: str) -> Ended:
    return Ended(900, EndReason.FAILURE, error, "failed_precondition", Phase.START_SIGNAL)


def test_initial() -> None:
    info = begin(retry_count=0)
    assert (info.egress_id, info.room_id, info.room_name) == ("EG_1", "RM_1", "demo")
    assert info.status == Status.EGRESS_STARTING
    assert info.source_type == EgressSourceType.EGRESS_SOURCE_TYPE_WEB
    assert (info.started_at, info.updated_at, info.ended_at) == (100, 100, 0)
    assert info.room_composite.file_outputs[0].s3.secret == "{secret}"
    assert "SECRET" not in str(info)
    assert [file.filename for file in info.file_results] == ["f.mp4"]
    assert info.segment_results[0].playlist_name == "d/s.m3u8"
    assert info.segment_results[0].live_playlist_name == "d/live.m3u8"
    assert [images.filename_prefix for images in info.image_results] == ["i", "d/j"]
    assert [stream.url for stream in info.stream_results] == [STREAM_URL]
    assert info.WhichOneof("result") is None


def test_a_split_file_has_a_result_for_each_part_and_others_keep_their_places() -> None:
    info = after(
        begin(),
        ACTIVE,
        FileUpdate(0, "f-00001.mp4", 200, 300, 100, 7, "/out/f-00001.mp4"),
        FileUpdate(0, "f-00002.mp4", 300, part=1),
        FileUpdate(0, "f-00003.mp4", 400, part=2),
        ImagesUpdate(2, "i", 3),
        ImagesUpdate(3, "d/j", 4),
        StreamUpdate(4, STREAM_URL, StreamStatus.ACTIVE, started_at_ns=9),
        FileUpdate(0, "f-00002.mp4", 300, 400, 100, 8, "/out/f-00002.mp4", part=1),
    )
    assert [(each.filename, each.location, each.started_at) for each in info.file_results] == [
        ("f-00001.mp4", "/out/f-00001.mp4", 200),
        ("f-00002.mp4", "/out/f-00002.mp4", 300),
        ("f-00003.mp4", "", 400),
    ]
    assert [each.image_count for each in info.image_results] == [3, 4]
    assert info.stream_results[0].started_at == 9


@pytest.mark.parametrize(
    ("kind", "body", "result"),
    [
        ("room_composite", {"room_name": "demo", "file": {}}, "file"),
        ("web", {"url": "http://e", "stream_outputs": [{"urls": ["srt://h:1"]}]}, "stream"),
        ("web", {"url": "http://e", "segment_outputs": [{}]}, "segments"),
        ("web", {"url": "http://e", "image_outputs": [{}]}, None),
        ("web", {"url": "http://e", "segment_outputs": [{}], "file_outputs": [{}]}, None),
        ("track", {"room_name": "demo", "track_id": "T", "file": {}}, "file"),
        ("track", {"room_name": "demo", "track_id": "T", "websocket_url": "ws://h"}, "stream"),
    ],
)
def test_the_deprecated_result_of_a_single_output(
    kind: str, body: dict[str, Any], result: str | None
) -> None:
    info = begin(body, kind)
    assert info.WhichOneof("result") == result
    expected = EgressSourceType.EGRESS_SOURCE_TYPE_SDK if kind == "track" else 0
    assert info.source_type == expected


def test_the_deprecated_result_follows() -> None:
    info = after(
        begin({"url": "http://e", "file": {}}, "web"),
        ACTIVE,
        FileUpdate(output=0, filename="x.mp4", size_bytes=7, location="/out/x.mp4", duration_ns=5),
        ended(),
    )
    assert info.file == info.file_results[0]
    assert (info.file.filename, info.file.size, info.file.location) == ("x.mp4", 7, "/out/x.mp4")
    streams = after(
        begin({"url": "http://e", "stream_outputs": [{"urls": ["srt://h:1"]}]}, "web"),
        StreamUpdate(output=0, url="srt://h:1", status=StreamStatus.FAILED, error="no route"),
    )
    assert list(streams.stream.info) == list(streams.stream_results)


CASES: list[tuple[str, list[AnyEvent], tuple[int, str, int, str]]] = [
    ("active", [ACTIVE], (Status.EGRESS_ACTIVE, "", 0, "")),
    (
        "ending",
        [ACTIVE, Ending(EndReason.API)],
        (Status.EGRESS_ENDING, "", 0, "End reason: StopEgress API"),
    ),
    (
        "stopped",
        [ACTIVE, Ending(EndReason.API), ended()],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: StopEgress API"),
    ),
    (
        "source closed",
        [ACTIVE, ended(EndReason.SOURCE_CLOSED)],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: Source closed"),
    ),
    (
        "streams stopped",
        [ACTIVE, Ending(EndReason.STREAMS_STOPPED), ended(EndReason.STREAMS_STOPPED)],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: All streams stopped"),
    ),
    (
        "killed",
        [ACTIVE, Ending(EndReason.KILLED), ended(EndReason.KILLED)],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: Process killed"),
    ),
    (
        "limit",
        [ACTIVE, Ending(EndReason.LIMIT), ended(EndReason.LIMIT)],
        (Status.EGRESS_LIMIT_REACHED, "Session limit reached", 413, "End reason: Session limit reached"),
    ),
    (
        "longest duration",
        [ACTIVE, Ending(EndReason.MAX_DURATION), ended(EndReason.MAX_DURATION)],
        (Status.EGRESS_LIMIT_REACHED, "Session limit reached", 413, "End reason: max_duration reached"),
    ),
    (
        "largest size, told late",
        [ACTIVE, ended(EndReason.MAX_SIZE)],
        (Status.EGRESS_LIMIT_REACHED, "Session limit reached", 413, "End reason: max_size reached"),
    ),
    (
        "empty room",
        [ACTIVE, Ending(EndReason.EMPTY), ended(EndReason.EMPTY)],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: Room empty (stop_when_empty)"),
    ),
    (
        "start takes too long",
        [Ending(EndReason.START_TIMEOUT)],
        (
            Status.EGRESS_ABORTED,
            "start_timeout reached before anything was recorded",
            412,
            "End reason: start_timeout reached",
        ),
    ),
    (
        "start takes too long, told late",
        [Ended(900, EndReason.START_TIMEOUT, phase=Phase.START_SIGNAL)],
        (
            Status.EGRESS_ABORTED,
            "start_timeout reached before anything was recorded",
            412,
            "End reason: start_timeout reached",
        ),
    ),
    (
        "stopped before the start",
        [Ending(EndReason.API)],
        (
            Status.EGRESS_ABORTED,
            "Stop called before pipeline could start",
            412,
            "End reason: StopEgress API",
        ),
    ),
    (
        "stopped before the start, told late",
        [ended()],
        (
            Status.EGRESS_ABORTED,
            "Stop called before pipeline could start",
            412,
            "End reason: StopEgress API",
        ),
    ),
    (
        "stopped while the page's signal is awaited",
        [Ending(EndReason.API, Phase.START_SIGNAL)],
        (Status.EGRESS_ABORTED, "Start signal not received", 412, "End reason: StopEgress API"),
    ),
    (
        "stopped while the page's signal is awaited, told late",
        [Ended(900, EndReason.KILLED, phase=Phase.START_SIGNAL)],
        (Status.EGRESS_ABORTED, "Start signal not received", 412, "End reason: Process killed"),
    ),
    (
        "source closed before the start",
        [ended(EndReason.SOURCE_CLOSED)],
        (
            Status.EGRESS_ABORTED,
            "Source closed before anything was recorded",
            412,
            "End reason: Source closed",
        ),
    ),
    (
        "limit before the start",
        [Ending(EndReason.LIMIT)],
        (
            Status.EGRESS_ABORTED,
            "Session limit reached before start signal",
            412,
            "End reason: Session limit reached",
        ),
    ),
    (
        "no start signal",
        [no_start("Start signal not received")],
        (Status.EGRESS_ABORTED, "Start signal not received", 412, "End reason: Failure"),
    ),
    (
        "no start signal, with its phase and what the page did",
        [no_start("start signal: start signal not received: x")],
        (
            Status.EGRESS_ABORTED,
            "start signal: start signal not received: x",
            412,
            "End reason: Failure",
        ),
    ),
    (
        "page not found",
        [ended(EndReason.FAILURE, "page load: HTTP 404", "invalid_argument")],
        (Status.EGRESS_FAILED, "page load: HTTP 404", 400, "End reason: Failure"),
    ),
    (
        "no sandbox",
        [ended(EndReason.FAILURE, "browser start: no sandbox", "failed_precondition")],
        (Status.EGRESS_FAILED, "browser start: no sandbox", 412, "End reason: Failure"),
    ),
    (
        "failed while recording",
        [ACTIVE, ended(EndReason.FAILURE, "storage write: refused", "permission_denied")],
        (Status.EGRESS_FAILED, "storage write: refused", 403, "End reason: Failure"),
    ),
    (
        "failed while ending",
        [ACTIVE, Ending(EndReason.API), ended(EndReason.FAILURE, "disk full", "internal")],
        (Status.EGRESS_FAILED, "disk full", 500, "End reason: StopEgress API"),
    ),
    (
        "unknown cause",
        [ACTIVE, ended(EndReason.FAILURE, "odd", "unknown")],
        (Status.EGRESS_FAILED, "odd", 0, "End reason: Failure"),
    ),
    (
        "a stream broke, what was asked to be kept is complete",
        [ACTIVE, OutputFailed(output=0, error="refused", code="unavailable"), ended()],
        (Status.EGRESS_COMPLETE, "", 0, "End reason: StopEgress API"),
    ),
]


@pytest.mark.parametrize(("events", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_status(events: list[AnyEvent], expected: tuple[int, str, int, str]) -> None:
    info = after(begin(), *events)
    assert (info.status, info.error, info.error_code, info.details) == expected
    assert bool(info.ended_at) == infos.is_terminal(info)


def test_results() -> None:
    info = after(
        begin(),
        ACTIVE,
        FileUpdate(output=0, size_bytes=10, ended_at_ns=700, duration_ns=500, location="s3://b/f.mp4"),
        SegmentsUpdate(output=1, segment_count=3, size_bytes=30, playlist_location="s3://b/d/s.m3u8"),
        ImagesUpdate(output=2, image_count=4),
        ImagesUpdate(output=3, image_count=5),
        StreamUpdate(output=4, url=STREAM_URL, status=StreamStatus.ACTIVE, started_at_ns=250),
        ManifestStored("s3://b/EG_1.json"),
        ManifestStored("s3://b/d/EG_1.json"),
        BackupUsed(output=0),
        Ending(EndReason.API),
        ended(),
    )
    file, segments, (first, second) = info.file_results[0], info.segment_results[0], info.image_results
    assert (file.started_at, file.ended_at, file.duration, file.size) == (200, 700, 500, 10)
    assert (segments.started_at, segments.ended_at, segments.duration) == (200, 900, 700)
    assert (segments.segment_count, segments.playlist_location) == (3, "s3://b/d/s.m3u8")
    assert (first.image_count, second.image_count, second.ended_at) == (4, 5, 900)
    stream = info.stream_results[0]
    assert (stream.status, stream.started_at, stream.duration) == (StreamInfo.FINISHED, 250, 650)
    assert info.manifest_location == "s3://b/EG_1.json"
    assert info.backup_storage_used
    assert info.ended_at == 900


def test_streams_come_and_go() -> None:
    added = infos.apply(begin(), StreamAdded(4, 1, "srt://h:1", "mine"), 500)
    info = after(
        added,
        ACTIVE,
        StreamUpdate(output=4, url=STREAM_URL, status=StreamStatus.FAILED, ended_at_ns=300, error="gone"),
        StreamUpdate(
            output=4, stream=1, url="srt://h:1", status=StreamStatus.ACTIVE, retries=2, last_retry_at_ns=7
        ),
    )
    shown = [(stream.url, stream.status, stream.id) for stream in info.stream_results]
    assert shown == [(STREAM_URL, StreamInfo.FAILED, ""), ("srt://h:1", StreamInfo.ACTIVE, "mine")]
    assert (info.stream_results[1].retries, info.stream_results[1].last_retry_at) == (2, 7)
    assert infos.apply(info, StreamAdded(4, 1, "srt://h:1"), 600) is info
    again = infos.apply(info, StreamAdded(4, 0, STREAM_URL), 600)
    assert again.stream_results[0] == StreamInfo(url=STREAM_URL)


def test_every_output_that_failed_is_named() -> None:
    first = OutputFailed(0, "disk: full", "resource_exhausted")
    second = OutputFailed(1, "storage write: refused", "permission_denied")
    # Whoever goes on with it tells of the first once more.
    info = after(begin(), ACTIVE, first, second, first)
    assert info.error == "disk: full\nstorage write: refused"
    assert info.error_code == 429


def test_what_never_began_has_no_end() -> None:
    info = after(begin(), Ended(900, EndReason.FAILURE, "page load: HTTP 404", "invalid_argument"))
    begun = {
        (each.started_at, each.ended_at)
        for results in (info.file_results, info.segment_results, info.image_results)
        for each in results
    }
    assert begun == {(0, 0)}
    assert [each.duration for each in info.file_results] == [0]


def test_a_failure_without_words_says_so() -> None:
    info = after(begin(), ACTIVE, Ended(900, EndReason.FAILURE, "", "internal"))
    assert (info.error, info.error_code) == ("the recording failed without saying why", 500)
    later = after(
        begin(), ACTIVE, OutputFailed(0, "x", "internal"), Ended(900, EndReason.FAILURE, "", "internal")
    )
    assert later.error == "x"


def test_an_update_changes_only_what_it_names() -> None:
    """Counts come while it records, names once they are known: none takes another's place."""
    full = SegmentsUpdate(1, "p", "l", "s3://p", "s3://l", 3, 5, 9, 4, 100)
    info = after(begin(), ACTIVE, full)
    [before] = info.segment_results
    [same] = after(info, SegmentsUpdate(1)).segment_results
    assert same == before
    assert (before.playlist_name, before.live_playlist_name) == ("p", "l")
    assert (before.playlist_location, before.live_playlist_location) == ("s3://p", "s3://l")
    assert (before.segment_count, before.ended_at, before.duration, before.size) == (3, 9, 4, 100)


def test_streams_that_look_alike_are_told_apart() -> None:
    urls = ["rtmp://h/app/room-1-hd", "rtmp://h/app/room-2-hd"]
    begun = begin({"url": "http://e", "stream_outputs": [{"urls": urls}]}, "web")
    shown = "rtmp://h/app/{roo...-hd}"
    info = after(
        infos.apply(begun, StreamAdded(0, 2, shown, "third"), 500),
        ACTIVE,
        StreamUpdate(output=0, stream=1, url=shown, status=StreamStatus.FAILED, error="gone"),
        StreamUpdate(output=0, stream=2, url=shown, status=StreamStatus.ACTIVE, started_at_ns=9),
        StreamUpdate(output=0, stream=0, url=shown, status=StreamStatus.FINISHED, ended_at_ns=8),
    )
    assert [(s.url, s.status, s.error) for s in info.stream_results] == [
        (shown, StreamInfo.FINISHED, ""),
        (shown, StreamInfo.FAILED, "gone"),
        (shown, StreamInfo.ACTIVE, ""),
    ]
    assert list(info.stream.info) == list(info.stream_results)


def test_the_streams_of_a_handler_that_died_have_failed() -> None:
    begun = after(
        begin(),
        ACTIVE,
        StreamUpdate(output=4, url=STREAM_URL, status=StreamStatus.ACTIVE, started_at_ns=250),
        StreamAdded(4, 1, "srt://h:1"),
        StreamUpdate(output=4, stream=1, url="srt://h:1", status=StreamStatus.FINISHED, ended_at_ns=300),
    )
    info = infos.ended_by_crash(begun, "the recorder was killed", 950)
    shown = [(stream.status, stream.error, stream.ended_at) for stream in info.stream_results]
    assert shown == [(StreamInfo.FAILED, "the recorder was killed", 950), (StreamInfo.FINISHED, "", 300)]
    failed = after(begun, ended(EndReason.FAILURE, "storage write: refused", "permission_denied"))
    assert [stream.status for stream in failed.stream_results] == [StreamInfo.FINISHED] * 2


def test_a_stream_that_is_sent_already_is_not_added_again() -> None:
    info = begin()
    assert infos.apply(info, StreamAdded(4, 0, STREAM_URL, "other"), 500) is info


def test_crash() -> None:
    info = infos.ended_by_crash(after(begin(), ACTIVE), "the recorder was killed", 950)
    assert (info.status, info.error, info.error_code) == (
        Status.EGRESS_FAILED,
        "the recorder was killed",
        500,
    )
    done = after(begin(), ACTIVE, ended())
    assert infos.ended_by_crash(done, "too late", 999) is done


def test_updates_are_new_messages_that_rise_in_time() -> None:
    before = begin()
    snapshot = before.SerializeToString()
    info = infos.apply(before, ACTIVE, 5)
    assert before.SerializeToString() == snapshot
    assert info.updated_at > before.updated_at
    assert infos.apply(info, Progress(1, 2, 3, 4, 5), 10**6) is info
    assert infos.apply(info, AwaitingStart(), 10**6) is info


def test_the_records_request_stands() -> None:
    stored = begin()
    stored.room_composite.layout = "speaker"
    kept = infos.with_request_of(after(begin(), ACTIVE), stored)
    assert kept.room_composite.layout == "speaker"
    assert kept.status == Status.EGRESS_ACTIVE
    same = after(begin(), ACTIVE)
    assert infos.with_request_of(same, begin()) is same
    assert infos.with_request_of(same, EgressInfo()) is same


reasons = st.sampled_from(list(EndReason))
codes = st.sampled_from(["", "internal", "unknown", "failed_precondition", "invalid_argument"])
events = st.one_of(
    st.builds(Active, at_ns=st.integers(1, 999)),
    st.builds(Ending, reason=reasons),
    st.builds(Ended, at_ns=st.integers(1, 999), reason=reasons, error=st.sampled_from(["", "e"]), code=codes),
    st.builds(FileUpdate, output=st.just(0), size_bytes=st.integers(0, 99)),
    st.builds(ImagesUpdate, output=st.sampled_from([2, 3]), image_count=st.integers(0, 99)),
    st.builds(
        StreamUpdate,
        output=st.just(4),
        url=st.just(STREAM_URL),
        status=st.sampled_from(list(StreamStatus)),
    ),
    st.builds(OutputFailed, output=st.just(0), error=st.just("x"), code=codes),
)
ORDER = [Status.EGRESS_STARTING, Status.EGRESS_ACTIVE, Status.EGRESS_ENDING]


@given(st.lists(events, max_size=12))
def test_a_terminal_status_never_changes_and_others_never_go_back(history: list[AnyEvent]) -> None:
    info = begin()
    for event in history:
        last, info = info, infos.apply(info, event, 1)
        if infos.is_terminal(last):
            assert info is last
        elif not infos.is_terminal(info):
            assert ORDER.index(info.status) >= ORDER.index(last.status)
            assert info.ended_at == 0
        else:
            assert info.ended_at
            assert info.details.startswith("End reason: ")


def test_details_say_paused_while_it_is_and_keep_what_else_they_say() -> None:
    info = EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_ACTIVE, details="a notice")
    info.room_composite.room_name = "room"
    paused = infos.apply(info, Paused(1), 1)
    assert (paused.status, paused.details) == (EgressStatus.EGRESS_ACTIVE, "a notice; Paused")
    assert infos.is_paused(paused)
    assert infos.apply(paused, Resumed(2), 2).details == "a notice"
    ended = infos.apply(paused, Ending(EndReason.API), 3)
    assert ended.details == "End reason: StopEgress API; a notice"


def test_composing_is_told_until_it_is_over() -> None:
    info = EgressInfo(status=EgressStatus.EGRESS_ACTIVE)
    said = []
    told = (Ending(EndReason.API), Composing(None), Composing(0), Composing(42), Ended(9, EndReason.API))
    for event in told:
        info = infos.apply(info, event, 5)
        said.append(info.details)
    assert said == [
        "End reason: StopEgress API",
        "End reason: StopEgress API; Composing: waits for its turn",
        "End reason: StopEgress API; Composing: 0 %",
        "End reason: StopEgress API; Composing: 42 %",
        "End reason: StopEgress API",
    ]
    assert info.status == EgressStatus.EGRESS_COMPLETE


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("End reason: Process killed", EndReason.KILLED),
        ("End reason: Process killed; Resumed after the recording process had died", EndReason.KILLED),
        ("the page said: End reason: Process killed", None),
        ("End reason: API; the page said: End reason: Process killed", None),
        ("End reason: a reason of upstream's", None),
        ("", None),
    ],
)
def test_the_reason_is_read_where_it_was_written(details: str, reason: EndReason | None) -> None:
    assert infos.end_reason(EgressInfo(details=details)) is reason
