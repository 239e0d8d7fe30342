"""What a handler that was taken over may say: nothing that costs the service more than it should."""

import math
from collections.abc import Iterable

import pytest

from openegress.core import ipc
from openegress.core.end_rules import EndRules
from openegress.core.events import (
    AnyEvent,
    Ended,
    EndReason,
    FileUpdate,
    Noticed,
    OutputFailed,
    Progress,
    Rejoined,
    SegmentsUpdate,
    StreamAdded,
    StreamStatus,
    StreamUpdate,
    Thumbnail,
    Uploaded,
)
from openegress.core.left_out import LeftOut, TrackLosses
from openegress.core.live_state import LiveState
from openegress.core.looks import Looks
from openegress.core.room_keys import KeyQuestion
from openegress.worker.handler_words import HandlerWords

LONG = "x" * 2_000_000


def said(messages: Iterable[AnyEvent | ipc.ToWorker]) -> None:
    words = HandlerWords(2)
    for each in messages:
        words.check(each)


@pytest.mark.parametrize(
    "message",
    [
        FileUpdate(0, part=2**40),
        FileUpdate(0, part=-1),
        FileUpdate(2),
        SegmentsUpdate(-1),
        StreamAdded(1, 2**31, "rtmp://h"),
        StreamUpdate(1, "rtmp://h", StreamStatus.ACTIVE, stream=-7),
        FileUpdate(0, filename=LONG),
        Noticed(LONG),
        Ended(1, EndReason.FAILURE, LONG),
        Thumbnail(LONG.encode()),
        ipc.Log("info", "said", {"text": LONG}),
        ipc.ClaimNames({"room_name": LONG}),
        LiveState(1, 1, True, EndRules(), Looks(text=LONG)),
        ipc.AskKeys(1, KeyQuestion((LONG,))),
        Progress(1, 1, 1, 0, 1, fps=math.nan),
        Uploaded("video/mp4", math.inf),
        Rejoined(1, -math.inf),
        Ended(1, EndReason.API, left_out=LeftOut((TrackLosses("TR_1", LONG),))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_no_recorder_says(message: AnyEvent | ipc.ToWorker) -> None:
    with pytest.raises(ValueError, match="a message"):
        said([message])


@pytest.mark.parametrize(
    "message",
    [Noticed("n" * 10_000), OutputFailed(0, "e" * 10_000, "internal")],
    ids=lambda message: type(message).__name__,
)
def test_what_adds_up_in_a_record(message: AnyEvent) -> None:
    with pytest.raises(ValueError, match="more reports than"):
        said([message] * 200)


def test_ever_more_parts_and_streams() -> None:
    with pytest.raises(ValueError, match="more reports than"):
        said(FileUpdate(0, "f" * 60_000, part=part) for part in range(2000))
    with pytest.raises(ValueError, match="more reports than"):
        said(StreamAdded(1, stream % 10, "u" * 60_000) for stream in range(2000))


@pytest.mark.parametrize("claim", [ipc.ClaimNames({"room_id": "r"}), ipc.ClaimClip("a.mp4")])
def test_ever_more_names(claim: ipc.ToWorker) -> None:
    with pytest.raises(ValueError, match="more claims of names"):
        said([claim] * 4)


def test_a_long_recording_is_believed() -> None:
    """A day in parts of ten seconds, with streams that break all the time."""
    words = HandlerWords(2)
    for part in range(8_640):
        words.check(FileUpdate(0, "f" * 250, 1, location="l" * 250, part=part))
        words.check(FileUpdate(0, "f" * 250, 1, 2, location="l" * 250, part=part))
        words.check(StreamUpdate(1, "rtmp://h", StreamStatus.ACTIVE, error="e" * 300))
        words.check(Progress(1, 1, 1, 0, 1))
    words.check(Thumbnail(bytes(200_000)))
    words.check(ipc.Log("error", "stacks", {"exc_info": "t" * 200_000, "lufs": -math.inf}))
