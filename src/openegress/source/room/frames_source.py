"""Tracks of a room as raw frames: decoded, fitted, mixed, and given out evenly paced by the capture clock.

The event loop queues encoded frames; one thread decodes all tracks and feeds the sink. A picture's time is
its slot's, never "now": what is late for a tick is not late for the recording.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from openegress.core.errors import Phase, internal
from openegress.core.plan import VideoEncoding
from openegress.media import NS, FrameSink
from openegress.media.canvas import Canvas
from openegress.media.decoder import SAMPLE_RATE
from openegress.media.mixer import BLOCK_SAMPLES
from openegress.room import EncodedFrame, Track
from openegress.source import SourceEvent, SourceStats
from openegress.source.room.clock import Horizon, Slots, is_left_out
from openegress.source.room.passthrough_source import FIRST_MEDIA_S, name_values
from openegress.source.room.selection import Selection
from openegress.source.room.session import RoomSession
from openegress.source.room.stage import Stage

PATIENCE_NS = NS * 6 // 5
"""For frames that are under way: a retransmission over a bad path takes half of that. Sound behind a packet
that is lost for good waits for 0.7 s (room.nack.AUDIO) and is still in time where the way takes 0.4 s."""
FIRST_FRAMES_NS = 9 * NS
"""For the first frames of a track: the room client holds them for a sender report, 8 s at most."""
AUDIO_TICK_S = 0.04
"""Without pictures: two blocks at a time."""
RELAXED_AUDIO_TICK_S = 0.2
"""Where nobody waits for the sound either: a thread that wakes up seldom costs half."""
KEY_PAUSE_NS = NS // 2
"""After the first request for a key frame; twice as long after each that did not help."""
LONGEST_KEY_PAUSE_NS = 30 * NS
"""A key frame costs everybody in the room: what cannot be decoded is not asked for again and again."""


@dataclass(frozen=True, slots=True)
class _Asked:
    next_ns: int
    """Media time of the next request."""
    pause_ns: int


class RoomFrameSource:
    """Implements source.Source."""

    def __init__(
        self,
        session: RoomSession,
        video: VideoEncoding | None,
        *,
        with_audio: bool,
        live: bool = False,
        watched: bool = False,
    ) -> None:
        """`session` has joined; it is closed with the source. `watched`: somebody waits for what comes out.
        `live`: so much so that, once it runs, a new track's first seconds are rather lost than waited for."""
        self._session = session
        self._stage = Stage(
            Canvas(video.width, video.height) if video else None,
            video.framerate if video else 0,
            with_audio=with_audio,
        )
        self._pictures = Slots(video.framerate) if video else None
        self._blocks = Slots(SAMPLE_RATE // BLOCK_SAMPLES) if with_audio else None
        self._live = live
        self._hurries = watched or video is not None
        audio_tick_s = AUDIO_TICK_S if watched else RELAXED_AUDIO_TICK_S
        self._tick_s = 1 / video.framerate if video else audio_tick_s
        self._horizon = Horizon(round(self._tick_s * NS))
        self._inbox: deque[tuple[Track, EncodedFrame] | tuple[int, Selection] | None] = deque()
        """Frames, selections with the unix ns of when they were made, and None for a room joined anew."""
        self._loop = asyncio.get_running_loop()
        self._sink: FrameSink | None = None
        self._zero_ns = 0
        self._stopping = threading.Event()
        self._stop_ns = 0
        self._thread: threading.Thread | None = None
        self._keys_asked: dict[str, _Asked] = {}
        """For key frames, by SID, while one is wanted."""
        self._left_out = 0

    async def prepare(self) -> None:
        await self._session.subscribe(self)
        await self._session.wait_for_media(FIRST_MEDIA_S)

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the room can fill. Known once the session has joined."""
        return name_values(self._session.selection.tracks)

    async def start(self, sink: FrameSink) -> int:
        selected = {track.sid for track in self._session.selection.tracks}
        arrived = [at_ns for sid, at_ns in self._session.arrived.items() if sid in selected]
        self._zero_ns = max(arrived, default=0) or self._session.now_ns()
        if not self._hurries:
            self._session.relax()
        self._sink = sink
        self._take(0)  # what is waited for is waited for from media time zero
        self._thread = threading.Thread(target=self._run, name="room frames")
        self._thread.start()
        return self._zero_ns

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._session.events()

    async def stop(self) -> None:
        self._stop_ns = self._stop_ns or self._session.now_ns()
        await self._session.release()
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    async def close(self) -> None:
        await self._session.close()

    def stats(self) -> SourceStats:
        given = self._pictures.next - self._left_out if self._pictures is not None else 0
        return SourceStats(given, self._stage.unique, self._left_out)

    # --- Listener, on the event loop

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        self._inbox.append((track, frame))

    def on_selection(self, selection: Selection) -> None:
        self._inbox.append((self._session.now_ns(), selection))

    def on_rejoined(self) -> None:
        self._inbox.append(None)

    # --- the thread

    def _run(self) -> None:
        try:
            tick = 0
            began_ns = self._session.now_ns()
            while True:
                tick += 1
                wait_ns = began_ns + round(tick * self._tick_s * NS) - self._session.now_ns()
                if wait_ns < 0:
                    tick -= wait_ns // round(self._tick_s * NS)  # ticks that were missed are not made up for
                elif self._stopping.wait(wait_ns / NS):
                    break
                if self._stopping.is_set():
                    break
                now_ns = self._session.now_ns() - self._zero_ns
                self._take(now_ns)
                self._give(self._until(now_ns))
            self._finish()
        except Exception as error:
            failure = internal(f"decoding failed: {error!r}", Phase.RECORDING)
            self._loop.call_soon_threadsafe(self._session.fail, failure)

    def _take(self, now_ns: int) -> None:
        inbox = self._inbox
        while inbox:
            match inbox.popleft():
                case None:
                    self._stage.rejoined(now_ns, self._first_frames_ns(now_ns))
                case int(at_ns), Selection() as selection:
                    begun_ns = max(0, at_ns - self._zero_ns)
                    self._stage.select(selection, begun_ns, self._first_frames_ns(begun_ns))
                case Track() as track, EncodedFrame() as frame:
                    self._stage.put(track, frame.capture_ns - self._zero_ns, frame)
        self._ask_for_key(now_ns)

    def _first_frames_ns(self, since_ns: int) -> int:
        """How long first frames are waited for. A live stream may begin late, but is not to stop."""
        return PATIENCE_NS if self._live and since_ns else FIRST_FRAMES_NS

    def _until(self, now_ns: int) -> int:
        complete_ns = self._stage.complete_ns()
        waits_from_ns = self._stage.waits_from_ns(now_ns)
        return self._horizon.advance(
            now_ns,
            now_ns if complete_ns is None else complete_ns,
            PATIENCE_NS,
            now_ns if waits_from_ns is None else waits_from_ns,
        )

    def _give(self, until_ns: int) -> None:
        """Gives out all that lies before `until_ns`, in order, at the pace of the sink."""
        while self._give_one(until_ns):
            pass

    def _give_one(self, until_ns: int) -> bool:
        """Sound up to the next picture, and that; False when there is none to give."""
        assert self._sink is not None
        picture_ns = until_ns if self._pictures is None else min(self._pictures.next_ns, until_ns)
        if self._blocks is not None:
            while self._blocks.at_ns(self._blocks.next + 1) <= picture_ns:
                samples = self._stage.sound(self._blocks.next)
                self._sink.audio(samples, self._blocks.next_ns, SAMPLE_RATE)
                self._blocks.next += 1
        if self._pictures is None or self._pictures.next_ns >= until_ns:
            return False
        if is_left_out(self._pictures.next, self._behind_ns(self._pictures.next_ns)):
            self._left_out += 1
        else:
            self._sink.video(self._stage.picture(self._pictures.next_ns), self._pictures.next_ns)
        self._pictures.next += 1
        return True

    def _behind_ns(self, picture_ns: int) -> int:
        """By the horizon: what had to wait for a sender report is not behind. At the end, which comes with
        all that still waits, by how long it has been waited for too."""
        waited_ns = self._session.now_ns() - self._stop_ns if self._stop_ns else 0
        return max(self._horizon.ns - picture_ns, waited_ns)

    def _finish(self) -> None:
        end_ns = self._stop_ns - self._zero_ns
        self._take(end_ns)
        self._give(end_ns)

    def _ask_for_key(self, now_ns: int) -> None:
        wanted = self._stage.keys_wanted()
        if self._keys_asked:
            self._keys_asked = {sid: each for sid, each in self._keys_asked.items() if sid in wanted}
        for sid in wanted:
            asked = self._keys_asked.get(sid)
            if asked is not None and now_ns < asked.next_ns:
                continue
            pause_ns = min(asked.pause_ns * 2, LONGEST_KEY_PAUSE_NS) if asked else KEY_PAUSE_NS
            self._keys_asked[sid] = _Asked(now_ns + pause_ns, pause_ns)
            self._loop.call_soon_threadsafe(self._session.request_key_frame, sid)
