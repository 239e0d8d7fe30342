"""What lies in the spool of a deferred recording when it is composed: whole, empty, damaged, too deadly."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openegress.core.codecs import AudioCodec, Container
from openegress.core.deferred import FOLDER, MAX_TRIES, TRACKS
from openegress.core.errors import Code
from openegress.core.events import AnyEvent, Composing, Ended, EndReason, FileUpdate
from openegress.core.marker import Marker
from openegress.core.plan import (
    AudioEncoding,
    AudioRoute,
    FileOutput,
    LayoutSource,
    Plan,
    Split,
    VideoEncoding,
)
from openegress.core.render import Render
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.handler.compose_turn import ComposeTurn
from openegress.handler.composing import Composer
from openegress.handler.recorded_span import RecordedSpan
from openegress.handler.recording_journal import RecordingJournal
from openegress.media.meeting_file import MeetingFile
from openegress.output.manifest import Pause
from openegress.output.sidecar.entries import ENDED, IS_CUT, PAUSED, RESUMED, STARTED, LogEntry
from openegress.output.sidecar.log import SidecarLog
from openegress.output.spool_file import folder
from testkit.meeting_maker import Attendance, make_meeting
from testkit.probe import mean_colour, probe

ZERO_NS, LENGTH_S = 1_800_000_000 * S, 3
ADA = Attendance("ada", 0.0, LENGTH_S, "vp8")
HOW = RecordedSpan(ZERO_NS, ZERO_NS + LENGTH_S * S, EndReason.API)


@dataclass
class Spool:
    """Of one egress."""

    folder: Path
    split: Split | None = None
    events: list[AnyEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        output = FileOutput(
            "film.mp4",
            Container.MP4,
            StoragePlan(LocalStorage(str(self.folder / "out"))),
            split=self.split,
        )
        self.plan = Plan(
            "EG_1",
            LayoutSource("room", "grid", "ws://a", "token", (AudioRoute("all"),)),
            (output,),
            VideoEncoding(640, 360, 30, 1000, 2.0),
            AudioEncoding(AudioCodec.AAC, 128, 48_000),
            sidecars=(Sidecar.EVENTS,),
            render=Render.DEFERRED,
        )
        self.journal = RecordingJournal.create(self.folder / "spool", self.plan)
        (self.journal.folder / FOLDER).mkdir()

    @property
    def tracks(self) -> Path:
        return self.journal.folder / FOLDER / TRACKS

    @property
    def out(self) -> Path:
        return self.folder / "out"

    async def happen(self, *more: LogEntry, ended_at_ns: int = HOW.ended_at_ns) -> None:
        log = SidecarLog(self.journal.folder)
        who = {"identity": "ada", "name": "Ada"}
        tracks = [{"kind": "video", "source": "camera"}, {"kind": "audio", "source": "microphone"}]
        log.append(LogEntry(ZERO_NS, STARTED))
        log.append(LogEntry(ZERO_NS, "participant_joined", who))
        for each in tracks:
            log.append(LogEntry(ZERO_NS, "track_published", who | each))
        for line in more:
            log.append(line)
        log.append(LogEntry(ended_at_ns, ENDED))
        await log.finish(10)

    async def compose(self, how: RecordedSpan = HOW) -> "tuple[Composer, str]":
        """With the text of what went wrong."""
        turn = ComposeTurn(lambda asked: turn.give())
        composer = Composer(self.plan, self.events.append, turn)
        error = await composer.run(self.journal, how)
        return composer, "" if error is None else error.text

    async def compose_left(self) -> tuple[Ended, bool]:
        """Of a process that died while it recorded."""
        self.journal.note(FileUpdate(0, "film.mkv", ZERO_NS))
        turn = ComposeTurn(lambda asked: turn.give())
        composer = Composer(self.plan, self.events.append, turn)
        return await composer.run_left(self.journal, self.journal.late_uploads())


async def test_parts_and_markers_of_a_whole_recording(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Split(every_s=2.0))
    make_meeting(spool.tracks, [ADA])
    await spool.happen()
    spool.journal.note_marker(0, Marker("here", S, ZERO_NS + S))
    composer, error = await spool.compose()
    assert not error and composer.is_settled
    lengths = [probe(tmp_path / "out" / f"film-0000{part}.mp4").duration_s for part in (1, 2)]
    assert lengths == pytest.approx([2, 1], abs=0.1)
    assert {each.name for each in spool.out.iterdir()} >= {"EG_1.json", "film.events.jsonl"}
    assert "here" in (spool.out / "EG_1.json").read_text()
    assert spool.journal.is_composed
    said = [each.percent for each in spool.events if isinstance(each, Composing)]
    assert said[:2] == [None, 0]


@pytest.mark.parametrize("died", [False, True])
async def test_a_pause_is_left_out(tmp_path: Path, died: bool) -> None:
    """Ten seconds after the first one. Ada leaves a second after it, and a second before the end."""
    spool = Spool(tmp_path)
    made = make_meeting(spool.tracks, [ADA])
    pause = Pause(ZERO_NS + S, ZERO_NS + 11 * S)
    who = {"identity": "ada", "name": "Ada"}
    ended_at_ns = ZERO_NS + (LENGTH_S + 10) * S
    await spool.happen(
        LogEntry(pause.paused_at_ns, PAUSED, {IS_CUT: True}),
        LogEntry(pause.resumed_at_ns, RESUMED, {IS_CUT: True}),
        LogEntry(ZERO_NS + 12 * S, "participant_left", who),
        ended_at_ns=ended_at_ns,
    )
    spool.journal.note_pause(0, pause)
    if died:
        made.replace(folder(str(spool.journal.folder), "file-0") / "recording.mkv")
        await spool.compose_left()
    else:
        how = RecordedSpan(ZERO_NS, ended_at_ns, EndReason.API, pauses=(pause,))
        _, error = await spool.compose(how)
        assert not error
    film = spool.out / "film.mp4"
    facts = probe(film)
    assert facts.duration_s == pytest.approx(LENGTH_S, abs=0.1)
    assert max(mean_colour(film, 1.8)) > 40 > max(mean_colour(film, 2.2))
    assert '"pauses": [' in (spool.out / "EG_1.json").read_text()


async def test_a_room_in_which_nobody_sent_anything(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    composer, error = await spool.compose()
    assert not error and composer.is_settled
    film = spool.out / "film.mp4"
    facts = probe(film)
    assert facts.video is not None and facts.video.frames == LENGTH_S * 30 and facts.audio is not None
    assert max(mean_colour(film, 1.0)) < 40


@pytest.mark.parametrize("died", ["while it recorded", "later"])
async def test_a_file_that_nobody_sent_anything_for(tmp_path: Path, died: str) -> None:
    """It is made ahead of the first packet."""
    spool = Spool(tmp_path)
    written = spool.journal.folder / "file-0" / "recording.mkv"
    written.parent.mkdir()
    written.write_bytes(b"")
    if died == "later":
        composer, error = await spool.compose()
        assert not error and composer.is_settled
        assert probe(spool.out / "film.mp4").video is not None
        return
    ended, is_settled = await spool.compose_left()
    assert is_settled and not list(spool.out.glob("*.mkv")), ended


async def test_tracks_of_a_process_that_died_are_stored_where_they_cannot_be_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    written = spool.journal.folder / "file-0" / "recording.mkv"
    written.parent.mkdir()
    written.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(60))
    ended, is_settled = await spool.compose_left()
    assert is_settled and "its tracks are stored as they are: film.mkv" in ended.error
    assert (spool.out / "film.mkv").stat().st_size == 64


@pytest.mark.parametrize("deaths", [0, MAX_TRIES])
async def test_what_cannot_be_composed_is_stored_as_it_is(tmp_path: Path, deaths: int) -> None:
    spool = Spool(tmp_path)
    make_meeting(spool.tracks, [ADA])
    if not deaths:
        spool.tracks.write_bytes(spool.tracks.read_bytes()[:40])
    whole = spool.tracks.read_bytes()
    for _ in range(deaths):
        spool.journal.begin_composing()
    composer, error = await spool.compose()
    assert "could not be composed" in error and "its tracks are stored as they are: film.mkv" in error
    assert composer.is_settled and (spool.out / "film.mkv").read_bytes() == whole
    (update,) = [each for each in spool.events if isinstance(each, FileUpdate) and each.location]
    assert update.filename == "film.mkv"
    if deaths:
        assert MeetingFile(spool.out / "film.mkv").tracks


async def test_one_that_is_stopped_is_left_to_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    make_meeting(spool.tracks, [ADA])
    turn = ComposeTurn(lambda asked: composer.stop())
    composer = Composer(spool.plan, spool.events.append, turn)
    error = await composer.run(spool.journal, HOW)
    assert error is not None and error.code is Code.UNAVAILABLE and not composer.is_settled
    assert spool.tracks.exists() and not spool.journal.is_composed
    assert spool.journal.begin_composing() == 1, "a stop counts as no death"
