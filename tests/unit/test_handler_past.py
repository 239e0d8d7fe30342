"""What a handler finds that another one has begun: where on the timeline it goes on, and what is missing."""

import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError
from openegress.core.events import FileUpdate, StreamStatus, StreamUpdate
from openegress.core.marker import Marker
from openegress.core.part import Part
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import (
    FileOutput,
    LayoutSource,
    Plan,
    Split,
    StreamOutput,
    StreamTarget,
    TracksFile,
    TracksSource,
    WebSource,
)
from openegress.core.restart import Restart, gaps_before_ns
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.handler.past import Past, as_changed, left_of, past_of
from openegress.handler.recording_journal import RecordingJournal
from openegress.output.left import LeftStream
from openegress.output.manifest import ClipRecord, Pause
from openegress.storage.journal import NAME

BEGAN_NS = 1_700_000_000 * S
PLAN = Plan(
    "EG_1",
    LayoutSource("r", "grid", "ws://h", "t"),
    (FileOutput("a.mp4", None, StoragePlan(LocalStorage("/out"))),),
    None,
    None,
    resumes=True,
)


def begun(spool: Path) -> RecordingJournal:
    journal = RecordingJournal.create(spool, PLAN)
    journal.note_started(BEGAN_NS)
    journal.note(FileUpdate(output=0, filename="a.mp4", started_at_ns=BEGAN_NS))
    return journal


def taken_over(journal: RecordingJournal) -> RecordingJournal:
    journal.release()
    return RecordingJournal.take_over(journal.folder)


def test_a_journal_tells_what_was(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.note_pause(0, Pause(BEGAN_NS + S, 0))
    journal.note_pause(0, Pause(BEGAN_NS + S, BEGAN_NS + 3 * S))
    journal.note_pause(1, Pause(BEGAN_NS + 5 * S, 0))
    restart = Restart(BEGAN_NS + 4 * S, BEGAN_NS + 5 * S, 2 * S)
    journal.note_restart(0, restart)
    marker = Marker("here", S, BEGAN_NS + S)
    journal.note_marker(0, marker)
    clip = ClipRecord("c.mp4", "/out/c.mp4", 0, S)
    journal.note_clip(0, clip)
    past = past_of(PLAN, taken_over(journal))
    assert past == Past(
        BEGAN_NS,
        2 * S,  # where the first one went on, though nothing is on the disk
        PauseMode.CUT,
        (Pause(BEGAN_NS + S, BEGAN_NS + 3 * S), Pause(BEGAN_NS + 5 * S, 0)),
        (restart,),
        (marker,),
        (clip,),
    )
    assert past.is_paused and past.is_cut_now


@pytest.mark.parametrize("what", ["ending", "ended", "nothing", "damaged"])
def test_what_nobody_can_go_on_with(tmp_path: Path, what: str) -> None:
    journal = RecordingJournal.create(tmp_path, PLAN) if what == "nothing" else begun(tmp_path)
    match what:
        case "ending":
            journal.note_ending()
        case "ended":
            journal.note(FileUpdate(output=0, filename="a.mp4", started_at_ns=BEGAN_NS, ended_at_ns=9))
        case "damaged":
            journal._journal.note("pause-0", "{")
    again = taken_over(journal)
    with pytest.raises(EgressError, match="the recording cannot be continued"):
        past_of(PLAN, again)
    again.release()


TIMES = st.integers(0, 1000 * S)


@given(TIMES, TIMES, TIMES)
def test_every_packet_is_at_its_time_of_the_room(end_ns: int, gap_ns: int, at_ns: int) -> None:
    """Its time on the timeline, and what the recording does not have until then, make the wall clock's."""
    past = Past(BEGAN_NS, end_ns, PauseMode.CUT)
    source_ns = past.lost_at_ns + gap_ns
    later = past.shift(source_ns)
    assert (later.by_ns, later.paused_ns) == (end_ns, gap_ns)
    assert BEGAN_NS + (at_ns + later.by_ns) + later.paused_ns == source_ns + at_ns
    assert past.restarted(source_ns).gap_ns == gap_ns


@given(st.lists(st.tuples(TIMES, TIMES), max_size=5), st.sampled_from(PauseMode))
def test_what_was_left_out_before_counts(lives: list[tuple[int, int]], mode: PauseMode) -> None:
    past = Past(BEGAN_NS, 0, mode)
    wall_ns = BEGAN_NS
    for length_ns, gap_ns in lives:
        past = Past(BEGAN_NS, past.end_ns + length_ns, mode, restarts=past.restarts)
        wall_ns += length_ns
        assert past.lost_at_ns == wall_ns
        wall_ns += gap_ns
        past = Past(BEGAN_NS, past.end_ns, mode, restarts=(*past.restarts, past.restarted(wall_ns)))


def test_a_pause_that_goes_on_is_no_gap(tmp_path: Path) -> None:
    pause = Pause(BEGAN_NS + 10 * S, 0)
    past = Past(BEGAN_NS, 9 * S, PauseMode.CUT, (pause,))
    restart = past.restarted(BEGAN_NS + 60 * S)
    assert (restart.lost_at_ns, restart.gap_ns) == (BEGAN_NS + 9 * S, S), "what was not written before it"
    held = Past(BEGAN_NS, 20 * S, PauseMode.HOLD, (pause,))
    assert held.restarted(BEGAN_NS + 60 * S).gap_ns == 40 * S, "a card is recorded as all else is"


def test_what_was_changed_while_it_ran_holds_on(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.note_rules(EndRules(max_duration_s=5.0))
    for layout in ("speaker?names=true", "?text=Part%202", "@pause"):
        journal.note_metadata(msgspec.json.encode({"layout": layout}).decode())
    journal.note_metadata("free text")
    journal.release()
    found = as_changed(PLAN, tmp_path)
    assert isinstance(found.source, LayoutSource)
    assert (found.end_rules.max_duration_s, found.source.layout) == (5.0, "speaker")
    assert (found.looks.names, found.looks.text) == (True, "Part 2")


def test_what_is_being_written_meanwhile_is_not_cut_off(tmp_path: Path) -> None:
    """The handler before may still be at work."""
    journal = begun(tmp_path)
    with (journal.folder / NAME).open("ab") as file:
        file.write(b'{"is":"noted","key":"mark')
    before = (journal.folder / NAME).read_bytes()
    as_changed(PLAN, tmp_path)
    assert (journal.folder / NAME).read_bytes() == before
    journal.release()


def test_a_page_has_the_looks_that_were_asked_for_last(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(PLAN, source=WebSource("http://e"))
    journal = RecordingJournal.create(tmp_path, plan)
    journal.note_metadata('{"layout": "?text=Part%202"}')
    journal.release()
    found = as_changed(plan, tmp_path)
    assert (found.source, found.looks.text) == (plan.source, "Part 2")


RTMP = StreamTarget("rtmp://e/app/key", "rtmp://e/app/{...}")
STREAM = msgspec.structs.replace(PLAN, outputs=(StreamOutput("rtmp", (RTMP,)),))


def test_what_only_sends_ends_with_its_last_sign_of_life(tmp_path: Path) -> None:
    began_ns = time.time_ns()
    journal = RecordingJournal.create(tmp_path, STREAM)
    journal.note_started(began_ns)
    journal = taken_over(journal)
    assert past_of(STREAM, journal).end_ns == 0, "it gave none"
    journal.note_alive()
    past = past_of(STREAM, taken_over(journal))
    assert began_ns < past.lost_at_ns <= time.time_ns()
    assert past.end_ns == past.lost_at_ns - began_ns


def test_streams_go_on_with_their_numbers(tmp_path: Path) -> None:
    journal = RecordingJournal.create(tmp_path, STREAM)
    added = StreamTarget("rtmp://e/app/other", "rtmp://e/app/{...}", "mine")
    failed = StreamUpdate(0, RTMP.redacted, StreamStatus.FAILED, started_at_ns=1, ended_at_ns=2, error="no")
    sent = StreamUpdate(0, added.redacted, StreamStatus.ACTIVE, stream=1, started_at_ns=3)
    journal.note_target(0, 1, added)
    for update in (failed, sent):
        journal.note_stream(update)
    left = left_of(STREAM, 0, taken_over(journal))
    assert left.streams == (LeftStream(RTMP, failed), LeftStream(added, sent))


def test_streams_of_another_worker_go_on_until_this_one_has_told_of_them(tmp_path: Path) -> None:
    """They are in the plan of its part, also when its own handler dies."""
    sent = StreamUpdate(0, RTMP.redacted, StreamStatus.ACTIVE, started_at_ns=3)
    plan = msgspec.structs.replace(STREAM, part=Part(1, BEGAN_NS, streams=(sent,)))
    journal = RecordingJournal.create(tmp_path, plan)
    assert left_of(plan, 0, journal).streams == (LeftStream(RTMP, sent),)
    gone = msgspec.structs.replace(sent, status=StreamStatus.FAILED)
    journal.note_stream(gone)
    assert left_of(plan, 0, taken_over(journal)).streams == (LeftStream(RTMP, gone),)


SPLIT = msgspec.structs.replace(
    PLAN,
    outputs=(FileOutput("a.mp4", Container.MP4, StoragePlan(LocalStorage("/out")), split=Split(60.0)),),
)
OF_TRACKS = msgspec.structs.replace(PLAN, source=TracksSource("r", "ws://h", "t"))


@pytest.mark.parametrize(
    ("plan", "name", "is_apart"),
    [
        (PLAN, "a.mp4", False),
        (PLAN, "a.ogg", True),
        (PLAN, "a.webm", True),
        (SPLIT, "a-00001.mp4", True),
        (OF_TRACKS, "a.mp4", True),
    ],
)
def test_what_goes_on_in_the_same_file(tmp_path: Path, plan: Plan, name: str, is_apart: bool) -> None:
    journal = RecordingJournal.create(tmp_path, plan)
    told = FileUpdate(output=0, filename=name, started_at_ns=BEGAN_NS)
    journal.note(told)
    assert left_of(plan, 0, taken_over(journal)).parts == ((told,) if is_apart else ())


def test_parts_that_have_ended_do_not_end_the_file(tmp_path: Path) -> None:
    journal = RecordingJournal.create(tmp_path, SPLIT)
    journal.note_started(BEGAN_NS)
    first = FileUpdate(0, "a-00001.mp4", BEGAN_NS, BEGAN_NS + 9 * S, 9 * S, location="/out/a-00001.mp4")
    second = FileUpdate(0, "a-00002.mp4", BEGAN_NS + 9 * S, part=1, begin_ns=9 * S)
    for update in (first, second):
        journal.note(update)
    journal = taken_over(journal)
    assert past_of(SPLIT, journal).end_ns == 9 * S, "where the part begins of which nothing is left"
    assert left_of(SPLIT, 0, journal).parts == (first, second)


def test_an_mp4_decides_where_all_goes_on(tmp_path: Path) -> None:
    """What is beside it may have come further, as nothing encodes that."""
    (output,) = PLAN.outputs
    assert isinstance(output, FileOutput)
    beside = TracksFile("t.mkv", Container.MKV, output.storage)
    plan = msgspec.structs.replace(PLAN, outputs=(output, beside))
    journal = RecordingJournal.create(tmp_path, plan)
    journal.note_started(BEGAN_NS)
    journal.note(FileUpdate(0, "a.mp4", BEGAN_NS))
    journal.note(FileUpdate(1, "t-00002.mkv", BEGAN_NS, part=1, begin_ns=7 * S))
    assert past_of(plan, taken_over(journal)).end_ns == 0
    alone = msgspec.structs.replace(plan, outputs=(beside, beside))
    journal = RecordingJournal.create(tmp_path / "alone", alone)
    journal.note_started(BEGAN_NS)
    journal.note(FileUpdate(1, "t-00002.mkv", BEGAN_NS, part=1, begin_ns=7 * S))
    assert past_of(alone, taken_over(journal)).end_ns == 7 * S


def test_a_journal_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    assert as_changed(PLAN, tmp_path) is PLAN


def test_what_is_missing_before_a_moment() -> None:
    restarts = (Restart(0, 4 * S, 10 * S), Restart(20 * S, 21 * S, 15 * S))
    assert [gaps_before_ns(restarts, at_s * S) for at_s in (9, 10, 14, 15)] == [0, 4 * S, 4 * S, 5 * S]
