"""The moments of an egress, from one record to the next."""

from typing import Any

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    FileInfo,
    RoomCompositeEgressRequest,
    SegmentsInfo,
    StreamInfo,
)

from openegress.api.timeline import moments


def info(**more: Any) -> EgressInfo:
    fields: dict[str, Any] = {"egress_id": "EG_1", "started_at": 10, "updated_at": 50} | more
    return EgressInfo(**fields)


def told(before: EgressInfo | None, after: EgressInfo) -> list[tuple[int, str, str]]:
    return [(moment.at_ns, moment.text, moment.mood.value) for moment in moments(before, after)]


def stream(**more: Any) -> StreamInfo:
    return StreamInfo(url="rtmp://h/{k}", **more)


def test_a_life() -> None:
    requested = info(file_results=[FileInfo(filename="a.mp4")])
    assert told(None, requested) == [(10, "Requested", "busy")]
    recording = info(status=EgressStatus.EGRESS_ACTIVE, file_results=[FileInfo(started_at=20)])
    assert told(requested, recording) == [(20, "Recording", "good")]
    ending = info(
        status=EgressStatus.EGRESS_ENDING,
        details="End reason: StopEgress API; left out: 2 pictures",
        file_results=[FileInfo(started_at=20)],
    )
    assert told(recording, ending) == [(50, "Ending: StopEgress API", "busy")]
    stored = FileInfo(started_at=20, filename="a.mp4", location="/out/a.mp4")
    done = info(status=EgressStatus.EGRESS_COMPLETE, ended_at=60, file_results=[stored])
    assert told(ending, done) == [(50, "Stored a.mp4", "good"), (60, "Complete", "good")]
    assert told(done, done) == []


def test_an_old_record_tells_what_it_has_times_for() -> None:
    failed = info(
        status=EgressStatus.EGRESS_FAILED,
        error="bucket gone",
        ended_at=60,
        segment_results=[SegmentsInfo(started_at=20, playlist_location="p")],
        stream_results=[stream(started_at=25, ended_at=60, status=StreamInfo.FINISHED)],
    )
    assert told(None, failed) == [
        (10, "Requested", "busy"),
        (20, "Recording", "good"),
        (25, "Stream rtmp://h/{k} is live", "good"),
        (60, "Stream rtmp://h/{k} finished", "quiet"),
        (60, "Failed: bucket gone", "bad"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (stream(), stream(started_at=20), [(20, "Stream rtmp://h/{k} is live", "good")]),
        (
            stream(started_at=20),
            stream(started_at=20, error="reset"),
            [(50, "Stream rtmp://h/{k} was lost: reset", "busy")],
        ),
        (
            stream(started_at=20, error="reset"),
            stream(started_at=20, error="refused", retries=2, last_retry_at=40),
            [(40, "Stream rtmp://h/{k}: 2 retries: refused", "busy")],
        ),
        (
            stream(started_at=20, error="refused", retries=2),
            stream(started_at=20, retries=2),
            [(50, "Stream rtmp://h/{k} is back", "good")],
        ),
        (
            stream(started_at=20),
            stream(started_at=20, status=StreamInfo.FAILED, error="gone", ended_at=45),
            [(45, "Stream rtmp://h/{k} failed: gone", "bad")],
        ),
        (stream(started_at=20), stream(started_at=20), []),
    ],
)
def test_streams(before: StreamInfo, after: StreamInfo, expected: list[tuple[int, str, str]]) -> None:
    file = FileInfo(started_at=1)
    found = told(
        info(file_results=[file], stream_results=[before]), info(file_results=[file], stream_results=[after])
    )
    assert found == expected


def test_layouts() -> None:
    grid = info(room_composite=RoomCompositeEgressRequest(layout="grid"))
    speaker = info(room_composite=RoomCompositeEgressRequest(layout="speaker"))
    assert told(grid, speaker) == [(50, "Layout: speaker", "quiet")]


def test_composing() -> None:
    waits, begun, later = (
        info(status=EgressStatus.EGRESS_ENDING, details=f"End reason: x; Composing: {said}")
        for said in ("waits for its turn", "0 %", "42 %")
    )
    assert told(waits, begun) == [(50, "Composing", "busy")]
    assert told(begun, later) == []


def test_pauses() -> None:
    running = info(status=EgressStatus.EGRESS_ACTIVE)
    paused = info(status=EgressStatus.EGRESS_ACTIVE, details="Paused")
    assert told(running, paused) == [(50, "Paused", "busy")]
    assert told(paused, running) == [(50, "Resumed", "good")]
    assert told(paused, paused) == []
    ending = info(status=EgressStatus.EGRESS_ENDING, details="End reason: StopEgress API")
    assert told(paused, ending) == [(50, "Ending: StopEgress API", "busy")]


def test_each_part_of_a_split_file_begins() -> None:
    first = FileInfo(filename="a-00001.mp4", started_at=20)
    second = FileInfo(filename="a-00002.mp4", started_at=40)
    before = info(status=EgressStatus.EGRESS_ACTIVE, file_results=[first])
    two = info(status=EgressStatus.EGRESS_ACTIVE, file_results=[first, second])
    assert told(before, two) == [(40, "Part 2: a-00002.mp4", "good")]
    assert told(two, two) == []
    assert (40, "Part 2: a-00002.mp4", "good") in told(None, two)
