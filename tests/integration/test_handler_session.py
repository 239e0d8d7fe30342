"""A session with real encoders and a real disk, whose source misbehaves: what it leaves, and what it says."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from openegress.core import plan as plans
from openegress.core import storages
from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.events import Active, AnyEvent, BackupUsed, Ended, EndReason, FileUpdate
from openegress.core.ipc import HandlerSettings, NamesClaimed
from openegress.core.live_state import LiveState
from openegress.core.live_streams import AddedTarget
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import Plan
from openegress.core.units import S
from openegress.handler import recording as sessions
from openegress.handler.cage import Unconfined
from openegress.handler.media_input import FrameInput, PacketInput
from openegress.handler.name_claim import NameClaim
from openegress.handler.recording import Recording
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.recovery import Recovery
from openegress.handler.worker_services import WorkerServices
from openegress.media import FrameSink, PacketSink, StreamFormat
from openegress.source import AwaitsSignal, SourceEvent, SourceStats
from openegress.storage.uploader import Stored, Uploader
from testkit.encoded import Encoded, Spec
from testkit.probe import probe

WITHIN_S = 10.0
FPS = 30
FRAMES = 60


UPLOAD = "openegress.storage.uploader.Uploader.put"


async def out_of_order(*_: object, **__: object) -> None:
    raise EgressError(Code.UNAVAILABLE, "out of order")


class Clip:
    """A source that delivers two seconds at once, and can fail at its start, its stop and its end."""

    def __init__(
        self,
        at_start: Exception | None = None,
        at_stop: Exception | None = None,
        at_close: Exception | None = None,
        frames: int = FRAMES,
        prepare_s: float = 0.0,
    ) -> None:
        self._prepare_s = prepare_s
        self._frames = frames
        self._at_start = at_start
        self._at_stop = at_stop
        self._at_close = at_close
        self.closed = False
        self._over: asyncio.Queue[SourceEvent | None] = asyncio.Queue()

    async def prepare(self) -> None:
        await asyncio.sleep(self._prepare_s)

    async def start(self, sink: FrameSink) -> int:
        if self._at_start is not None:
            raise self._at_start
        self._feeding = asyncio.create_task(self._feed(sink))
        return 1_700_000_000 * S

    async def _feed(self, sink: FrameSink) -> None:
        for number in range(self._frames):
            frame = av.VideoFrame.from_ndarray(np.full((270, 320), number, np.uint8), "yuv420p")
            sink.video(frame, number * S // FPS)
            await asyncio.sleep(0.005)

    async def events(self) -> AsyncIterator[SourceEvent]:
        while (event := await self._over.get()) is not None:
            yield event

    async def pause(self, mode: PauseMode) -> int:
        raise NotImplementedError

    async def resume(self) -> int:
        raise NotImplementedError

    async def stop(self) -> None:
        if self._at_start is None:
            await self._feeding
        if self._at_stop is not None:
            raise self._at_stop

    def now_ns(self) -> int:
        return 0

    async def close(self) -> None:
        self._over.put_nowait(None)
        self.closed = True
        if self._at_close is not None:
            raise self._at_close

    def stats(self) -> SourceStats:
        return SourceStats()


class Waiting(Clip):
    """A page that does not start."""

    async def prepare(self) -> None:
        self._over.put_nowait(AwaitsSignal())
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Nothing has begun."""


class Broken(Clip):
    """Its events fail."""

    async def events(self) -> AsyncIterator[SourceEvent]:
        await self._over.get()
        raise RuntimeError("no news")
        yield AwaitsSignal()

    def fail(self) -> None:
        self._over.put_nowait(None)


class Packets:
    """A room's track, as a source that passes it through: two seconds, at once."""

    def __init__(self, count: int | None = None) -> None:
        """`count`: of its packets, of which nobody knows how long they last."""
        self._count = count
        self._encoded = Encoded(Spec(seconds=2.0, audio=None))
        self.closed = False
        self._over: asyncio.Queue[SourceEvent | None] = asyncio.Queue()

    async def prepare(self) -> None:
        pass

    def formats(self) -> Sequence[StreamFormat]:
        return self._encoded.formats

    def name_values(self) -> dict[str, str]:
        return {"track_id": "TR_1"}

    async def start(self, sink: PacketSink) -> int:
        for packet in islice(self._encoded.packets(), self._count):
            sink.write(replace(packet, duration=0) if self._count else packet)
        return 1_700_000_000 * S

    async def events(self) -> AsyncIterator[SourceEvent]:
        while (event := await self._over.get()) is not None:
            yield event

    async def stop(self) -> None:
        """All was delivered at the start."""

    async def close(self) -> None:
        self.closed = True
        self._over.put_nowait(None)

    async def change_rules(self, rules: EndRules) -> None:
        pass

    def request_key_frames(self) -> None:
        pass

    async def pause(self, mode: PauseMode) -> int:
        return 0

    async def resume(self) -> int:
        return 0

    def stats(self) -> SourceStats:
        return SourceStats()


def storage_in(folder: Path) -> storages.StoragePlan:
    return storages.StoragePlan(storages.LocalStorage(str(folder)), retry_for_s=0)


class Rig:
    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        source: Clip | Packets,
        filepath: str = "clip.mp4",
        *,
        manifest: bool = False,
        output: plans.Output | None = None,
        limit_s: float = 0.0,
    ) -> None:
        self.spool, self.out = folder / "spool", folder / "out"
        self.out.mkdir()
        self.events: list[AnyEvent] = []
        self.active = asyncio.Event()
        storage = storage_in(self.out)
        self.plan = Plan(
            egress_id="EG_clip",
            source=plans.WebSource("http://127.0.0.1/"),
            outputs=(output or plans.FileOutput(filepath, Container.MP4, storage, manifest),),
            video=plans.VideoEncoding(320, 180, FPS, 500, 2.0),
            audio=None,
            limits=plans.Limits(duration_s=limit_s),
        )
        self._source = source
        self.feed: FrameInput | PacketInput
        if isinstance(source, Packets):
            self.feed = PacketInput(source)
        else:
            self.feed = FrameInput(source, self.plan, lambda error: None)

        async def build(*_: object) -> FrameInput | PacketInput:
            return self.feed

        monkeypatch.setattr(sessions, "open_input", build)
        settings = HandlerSettings(spool=str(self.spool), stop_timeout_s=0.5)
        names = NameClaim(self.plan, lambda message: names.answer(NamesClaimed()))
        self.session = Recording(self.plan, settings, self._take, None, Unconfined(), WorkerServices(names))

    def _take(self, event: AnyEvent | LiveState | AddedTarget) -> None:
        assert not isinstance(event, LiveState | AddedTarget), "nobody goes on with it"
        self.events.append(event)
        if isinstance(event, Active):
            self.active.set()

    async def run(self) -> Ended:
        async with asyncio.timeout(WITHIN_S):
            await self.session.run()
        ended = self.events[-1]
        assert isinstance(ended, Ended)
        assert self._source.closed
        return ended

    async def record(self, seconds: float) -> Ended:
        running = asyncio.ensure_future(self.run())
        await self.active.wait()
        await asyncio.sleep(seconds)
        self.session.stop(EndReason.API)
        return await running

    @property
    def left(self) -> list[Path]:
        return list(self.spool.glob("*"))


async def test_a_frozen_encoder_ends_the_egress_and_what_was_encoded_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip())
    assert isinstance(rig.feed, FrameInput)
    encoder, thaw = rig.feed._pipeline._video, threading.Event()
    assert encoder is not None
    encode = encoder.encode

    def freeze(frame: av.VideoFrame, pts_ns: int) -> object:
        if pts_ns >= S:
            thaw.wait()
        return encode(frame, pts_ns)

    monkeypatch.setattr(encoder, "encode", freeze)
    try:
        ended = await rig.record(1.0)
    finally:
        thaw.set()
    assert ended.error.startswith("finish: pipeline frozen: ")
    assert (ended.code, ended.reason) == (Code.INTERNAL.value, EndReason.API)
    video = probe(rig.out / "clip.mp4").video
    assert video is not None and video.duration_s > 0.3
    assert rig.left == []


async def test_a_source_whose_events_fail_ends_the_egress_and_what_was_encoded_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Broken()
    rig = Rig(tmp_path, monkeypatch, source)
    running = asyncio.ensure_future(rig.run())
    await rig.active.wait()
    source.fail()
    ended = await running
    assert ended.reason is EndReason.FAILURE
    assert ended.error == "recording: the source's events could not be followed: RuntimeError('no news')"
    assert probe(rig.out / "clip.mp4").video is not None
    assert rig.left == []


@pytest.mark.parametrize("when", ["at_stop", "at_close"])
async def test_a_source_that_cannot_clean_up_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    trouble: dict[str, Any] = {when: OSError("the folder is busy")}
    rig = Rig(tmp_path, monkeypatch, Clip(**trouble))
    ended = await rig.record(0.5)
    assert (ended.error, ended.reason) == ("", EndReason.API)
    video = probe(rig.out / "clip.mp4").video
    assert video is not None and video.duration_s == pytest.approx(FRAMES / FPS, abs=0.05)
    assert "the folder is busy" in caplog.text
    assert rig.left == []


async def test_a_source_that_does_not_start_leaves_nothing_to_recover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip(at_start=EgressError(Code.INTERNAL, "no picture")))
    ended = await rig.run()
    assert ended.error == "no picture"
    assert rig.left == []


async def test_a_session_that_does_not_start_lasts_no_longer_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Waiting(), limit_s=0.3)
    ended = await rig.run()
    assert (ended.reason, ended.error, ended.phase) == (EndReason.LIMIT, "", Phase.START_SIGNAL)
    assert not rig.active.is_set()
    assert rig.left == []


async def test_a_recording_lasts_as_long_as_it_may_however_long_its_start_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip(prepare_s=0.4), limit_s=0.6)
    running = asyncio.ensure_future(rig.run())
    await rig.active.wait()
    active_s = asyncio.get_running_loop().time()
    ended = await running
    assert (ended.reason, ended.error) == (EndReason.LIMIT, "")
    assert asyncio.get_running_loop().time() - active_s >= 0.55


async def test_outputs_that_do_not_open_leave_nothing_to_recover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip())

    def refuse(*_: object) -> None:
        raise EgressError(Code.INTERNAL, "the disk is full")

    monkeypatch.setattr("openegress.output.file.recorder.FileRecorder.open", refuse)
    ended = await rig.run()
    assert ended.error == "the disk is full"
    assert [event for event in rig.events if isinstance(event, FileUpdate)] == []
    assert rig.left == []


@pytest.mark.parametrize(("source", "passes"), [(Packets, True), (Clip, False)])
async def test_the_manifest_says_whether_anything_was_encoded_and_file_names_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: type[Clip] | type[Packets], passes: bool
) -> None:
    rig = Rig(tmp_path, monkeypatch, source(), "{passthrough}.mp4", manifest=True)
    ended = await rig.record(0.5)
    assert ended.error == ""
    told = json.loads((rig.out / "EG_clip.json").read_text())
    assert told.get("passthrough", False) is passes
    assert [file["filename"] for file in told["files"]] == ["{passthrough}.mp4"]


async def test_what_the_begin_of_a_recording_used_goes_back_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(sessions, "_UNDER_WAY_S", 0.2)
    release = "openegress.source.memory.release_free_memory"
    monkeypatch.setattr(release, lambda: given.append(time.monotonic()))
    rig = Rig(tmp_path, monkeypatch, Packets())
    began_s = time.monotonic()
    assert (await rig.record(0.5)).error == ""
    assert [at_s - began_s >= 0.2 for at_s in given] == [True]


async def test_a_recovery_knows_that_nothing_was_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Packets(), "{passthrough}.mp4", manifest=True)

    with monkeypatch.context() as away:
        away.setattr(UPLOAD, out_of_order)
        ended = await rig.record(0.5)
    assert "out of order" in ended.error
    assert rig.left == [rig.spool / "EG_clip"]
    await Recovery(rig.plan, rig.spool, rig.events.append, Unconfined()).run()
    told = json.loads((rig.out / "EG_clip.json").read_text())
    assert told["passthrough"] is True
    assert [file["filename"] for file in told["files"]] == ["{passthrough}.mp4"]
    assert rig.left == []


def outputs_in(folder: Path) -> dict[str, plans.Output]:
    storage = storage_in(folder)
    streams = (plans.StreamTarget("rtmp://127.0.0.1:1/live/key", "rtmp://127.0.0.1:1/live/{k...y}"),)
    return {
        "mp4": plans.FileOutput("clip.mp4", Container.MP4, storage),
        "ts": plans.SegmentOutput("hls/", "s", "p.m3u8", "", 2, Container.TS, False, storage),
        "fmp4": plans.SegmentOutput("hls/", "s", "p.m3u8", "", 2, Container.FMP4, False, storage),
        "images": plans.ImageOutput("", "i", 1, 0, 0, "index", storage),
        "stream": plans.StreamOutput("rtmp", streams),
    }


@pytest.mark.parametrize("kind", ["mp4", "ts", "fmp4", "images", "stream"])
async def test_an_egress_that_no_frame_reached_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    output = outputs_in(tmp_path / "out")[kind]
    rig = Rig(tmp_path, monkeypatch, Clip(frames=0), output=output)
    ended = await rig.record(0.2)
    assert kind == "images" or ended.error
    assert rig.left == []


@pytest.mark.parametrize("kind", ["mp4", "ts", "fmp4", "images"])
@pytest.mark.parametrize("frames", [0, FRAMES])
async def test_a_recovery_clears_what_holds_nothing_and_stores_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, frames: int
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip(frames=frames), output=outputs_in(tmp_path / "out")[kind])

    with monkeypatch.context() as killed:
        killed.setattr(UPLOAD, out_of_order)
        if not frames:
            killed.setattr("openegress.handler.outputs.Outputs.is_settled", lambda _: False)
        await rig.record(0.5)
    assert rig.left == [rig.spool / "EG_clip"]
    await Recovery(rig.plan, rig.spool, rig.events.append, Unconfined()).run()
    assert rig.left == []
    assert bool(list(rig.out.rglob("*"))) == bool(frames)


@pytest.mark.parametrize("kind", ["mp4", "ts", "images"])
async def test_media_that_the_journal_does_not_name_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A disk that was full when an output began, and has space again."""
    rig = Rig(tmp_path, monkeypatch, Clip(frames=FRAMES), output=outputs_in(tmp_path / "out")[kind])

    with monkeypatch.context() as killed:
        killed.setattr(UPLOAD, out_of_order)
        killed.setattr("openegress.handler.recording_journal.RecordingJournal._write", lambda *_: None)
        await rig.record(0.5)
    [left] = rig.left
    before = sorted(left.rglob("*"))
    await Recovery(rig.plan, rig.spool, rig.events.append, Unconfined()).run()
    ended = rig.events[-1]
    assert isinstance(ended, Ended)
    assert "the journal does not say what its files are; they are kept" in ended.error
    assert sorted(left.rglob("*")) == before


async def test_a_single_picture_of_unknown_duration_is_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Packets(1))
    ended = await rig.record(0.2)
    assert ended.error == ""
    video = probe(rig.out / "clip.mp4").video
    assert video is not None and video.frames == 1
    assert rig.left == []


async def test_a_recovery_finds_a_file_where_a_dead_handler_has_stored_it(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    storage = storages.StoragePlan(
        storages.LocalStorage(str(tmp_path / "out")), backup=storages.LocalStorage(str(backup)), retry_for_s=0
    )
    plan = Plan(
        "EG_clip",
        plans.WebSource("http://127.0.0.1/"),
        (plans.FileOutput("a/clip.mp4", Container.MP4, storage),),
        video=None,
        audio=None,
    )
    ledger = RecordingJournal.create(tmp_path / "spool", plan)
    ledger.note(FileUpdate(0, "a/clip.mp4", 5 * S, 9 * S, 4 * S, 1000))
    local = ledger.folder / "file-0" / "recording.mp4"
    local.parent.mkdir()
    local.write_bytes(bytes(1000))
    (tmp_path / "out").write_text("no folder")
    await Uploader(storage).put(local, "a/clip.mp4", "video/mp4", delete_local=True)
    ledger.release()
    (tmp_path / "out").unlink()  # it is back, and has nothing

    events: list[AnyEvent] = []
    await Recovery(plan, tmp_path / "spool", events.append, Unconfined()).run()
    assert isinstance(events[-1], Ended) and not events[-1].code
    [update] = [event for event in events if isinstance(event, FileUpdate)]
    assert (update.location, update.size_bytes) == (str(backup / "a/clip.mp4"), 1000)
    assert [event for event in events if isinstance(event, BackupUsed)] == [BackupUsed(0)]
    told = json.loads((tmp_path / "out/a/EG_clip.json").read_text())
    assert told["files"] == [{"filename": "a/clip.mp4", "location": update.location}]
    assert not list((tmp_path / "spool").iterdir())


async def test_a_recovery_of_one_output_does_not_wait_for_the_storage_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("first.mp4", "second.mp4")
    storage = storages.StoragePlan(storages.LocalStorage(str(tmp_path / "out")))
    outputs = tuple(plans.FileOutput(name, Container.MP4, storage) for name in names)
    plan = Plan("EG_clip", plans.WebSource("http://127.0.0.1/"), outputs, video=None, audio=None)
    ledger = RecordingJournal.create(tmp_path / "spool", plan)
    for index, name in enumerate(names):
        ledger.note(FileUpdate(index, name, 5 * S, 9 * S, 4 * S, 1000))
    ledger.release()
    second_located = asyncio.Event()

    async def locate(_: Uploader, path: str, **__: object) -> Stored:
        if path == "second.mp4":
            second_located.set()
        await second_located.wait()
        return Stored(path, f"/out/{path}", False, 1000)

    monkeypatch.setattr("openegress.storage.uploader.Uploader.locate", locate)
    events: list[AnyEvent] = []
    async with asyncio.timeout(WITHIN_S):
        await Recovery(plan, tmp_path / "spool", events.append, Unconfined()).run()
    assert isinstance(events[-1], Ended) and not events[-1].code
    located = {event.location for event in events if isinstance(event, FileUpdate)}
    assert located == {"/out/first.mp4", "/out/second.mp4"}


async def test_a_recovery_stores_beside_what_another_recording_has_stored_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip())

    with monkeypatch.context() as away:
        away.setattr(UPLOAD, out_of_order)
        await rig.record(0.5)
    newer = rig.out / "clip.mp4"
    newer.parent.mkdir(exist_ok=True)
    newer.write_bytes(b"of a later recording")
    later_s = time.time() + 60
    os.utime(newer, (later_s, later_s))
    events: list[AnyEvent] = []
    await Recovery(rig.plan, rig.spool, events.append, Unconfined()).run()
    assert isinstance(events[-1], Ended) and not events[-1].code, events[-1]
    assert newer.read_bytes() == b"of a later recording"
    told = [event for event in events if isinstance(event, FileUpdate)][-1]
    assert told.filename == "clip-EG_clip.mp4"
    assert told.location == str(rig.out / told.filename)
    video = probe(rig.out / told.filename).video
    assert video is not None and video.frames > 5
    assert rig.left == []


async def test_a_recovery_of_a_file_that_a_dead_disk_holds_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, Clip())

    with monkeypatch.context() as away:
        away.setattr(UPLOAD, out_of_order)
        await rig.record(0.5)
    dead = threading.Event()
    monkeypatch.setattr("openegress.output.file.recover.duration_ns", lambda _: dead.wait())
    monkeypatch.setattr("openegress.output.file.recover.patience_s", lambda _: 0.2)
    events: list[AnyEvent] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            await Recovery(rig.plan, rig.spool, events.append, Unconfined()).run()
    finally:
        dead.set()
    assert isinstance(events[-1], Ended)
    assert "recovery of clip.mp4: the disk of the recordings did not answer" in events[-1].error
    assert (rig.spool / "EG_clip/file-0/recording.mp4").exists()
