"""Tracks of a room as raw frames: decoded, fitted, mixed, and given out evenly paced.

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
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.canvas import Canvas
from openegress.media.mixer import BLOCK_SAMPLES
from openegress.media.samples import SAMPLE_RATE
from openegress.room import EncodedFrame, Track
from openegress.source import SourceEvent, SourceStats
from openegress.source.memory import Shedding
from openegress.source.room.clock import Horizon, Pace, Rest, Slots, is_left_out
from openegress.source.room.compositor import Compositor
from openegress.source.room.cuts import BLOCK_NS, Cuts
from openegress.source.room.passthrough_source import FIRST_MEDIA_S, name_values
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower

AUDIO_TICK_S = 0.04
"""Without pictures: two blocks at a time."""
RELAXED_AUDIO_TICK_S = 0.2
"""Where nobody waits for the sound either: a thread that wakes up seldom costs half."""
HELD_FRAMES, HELD_NS = 1024, S
"""Of sound that comes before the start, when it is more than so many frames: what came last."""
LOOK_S = 0.1
RELAXED_LOOK_S = 0.5
"""Between two looks of the event loop at the network, whether anything comes or not."""
HELD_UP_NS = S // 4
"""A look that is overdue by so much tells that the event loop is held up. Nobody knows what has come in since
the last one, so nothing is given up. Together with RELAXED_LOOK_S less than what is waited for sound."""
KEY_PAUSE_NS = S // 2
"""After the first request for a key frame; twice as long after each that did not help."""
LONGEST_KEY_PAUSE_NS = 30 * S
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
        follower: TrackFollower,
        video: VideoEncoding | None,
        *,
        with_audio: bool,
        watched: bool = False,
    ) -> None:
        """`follower` has joined; it is closed with the source. `watched`: somebody waits for what comes
        out."""
        self._follower = follower
        self._compositor = Compositor(
            Canvas(video.width, video.height) if video else None,
            video.framerate if video else 0,
            with_audio=with_audio,
        )
        self._pictures = Slots(video.framerate) if video else None
        self._blocks = Slots(SAMPLE_RATE // BLOCK_SAMPLES) if with_audio else None
        self._hurries = watched or video is not None
        audio_tick_s = AUDIO_TICK_S if watched else RELAXED_AUDIO_TICK_S
        self._look_s = LOOK_S if self._hurries else RELAXED_LOOK_S
        self._tick_s = 1 / video.framerate if video else audio_tick_s
        self._rest = Rest(video.framerate) if video and not watched else None
        self._pace = Pace.AT_ONCE
        self._horizon = Horizon(round(self._tick_s * S))
        self._inbox: deque[tuple[Track, EncodedFrame] | tuple[int, Selection] | Shedding] = deque()
        """Frames, selections with the unix ns of when they were made, and what to give up."""
        self._loop = asyncio.get_running_loop()
        self._sink: FrameSink | None = None
        self._zero_ns = 0
        self._delay_ns = 0
        self._cuts = Cuts()
        """Replaced as a whole by the event loop, read by the thread."""
        self._told_cuts = 0
        self._stopping = threading.Event()
        self._stop_ns = 0
        self._looked_ns = 0
        """Unix ns up to which all that had come in has been taken."""
        self._looker: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._keys_asked: dict[str, _Asked] = {}
        """For key frames, by SID, while one is wanted."""
        self._left_out = 0

    async def prepare(self) -> None:
        await self._follower.subscribe(self)
        await self._follower.wait_for_media(FIRST_MEDIA_S)

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the room can fill. Known once the room is joined."""
        return name_values(self._follower.selection.tracks)

    async def start(self, sink: FrameSink) -> int:
        selected = {track.sid for track in self._follower.selection.tracks}
        arrived = [at_ns for sid, at_ns in self._follower.arrived.items() if sid in selected]
        self._begin(sink, max(arrived, default=0) or self._follower.now_ns())
        return self._zero_ns

    def start_since(self, sink: FrameSink, since_ns: int) -> None:
        """Instead of start(): media time zero was so long ago."""
        self._begin(sink, self._follower.now_ns() - since_ns)

    def delay(self, by_ns: int) -> None:
        """What comes from now on lies later on the timeline by this. From the event loop."""
        self._delay_ns = by_ns

    def _begin(self, sink: FrameSink, zero_ns: int) -> None:
        self._zero_ns = zero_ns
        if not self._hurries:
            self._follower.batch_reads()
        self._sink = sink
        self._keep_looking()
        self._take(0)  # tracks are waited for from media time zero
        self._thread = threading.Thread(target=self._run, name="room frames")
        self._thread.start()

    async def pause(self) -> int:
        """What comes from now on is left out of the recording, and not received. Returns when, in unix ns."""
        self._cuts = self._cuts.begun(self._follower.now_ns() - self._zero_ns)
        await self._follower.pause()
        return self._zero_ns + self._cuts.edge_ns

    async def resume(self) -> int:
        """The recording goes on where it stopped as soon as media is there. Returns when, in unix ns. Raises
        EgressError when the room closed meanwhile."""
        at_ns = await self._follower.resume(FIRST_MEDIA_S)
        self._cuts = self._cuts.ended(at_ns - self._zero_ns)
        return self._zero_ns + self._cuts.edge_ns

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._follower.events()

    async def stop(self) -> None:
        self._stop_ns = self._stop_ns or self._follower.now_ns()
        await self._follower.release()
        if self._looker is not None:
            self._looker.cancel()
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    async def close(self) -> None:
        await self._follower.close()

    def stats(self) -> SourceStats:
        given = self._pictures.next - self._left_out if self._pictures is not None else 0
        return SourceStats(given, self._compositor.unique, self._left_out, self._follower.losses())

    # --- on the event loop

    def _keep_looking(self) -> None:
        self._look()
        self._looker = self._loop.call_later(self._look_s, self._keep_looking)

    def _look(self) -> None:
        self._follower.drain()
        self._looked_ns = self._follower.now_ns()

    # --- Listener, on the event loop

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        self._inbox.append((track, frame))
        if self._sink is None and self._pictures is None and len(self._inbox) > HELD_FRAMES:
            self._forget(frame.at_ns - HELD_NS)

    def on_selection(self, selection: Selection) -> None:
        self._inbox.append((self._follower.now_ns(), selection))

    def _forget(self, before_ns: int) -> None:
        """A page that is waited for may begin in an hour. Called with each frame, so it looks at the oldest
        ones only."""
        kept = []
        while self._inbox:
            match self._inbox[0]:
                case Track(), EncodedFrame() as frame if frame.at_ns < before_ns:
                    self._inbox.popleft()
                case Track(), EncodedFrame():
                    break
                case other:
                    kept.append(other)
                    self._inbox.popleft()
        self._inbox.extendleft(reversed(kept))

    def shed(self, what: Shedding) -> None:
        self._inbox.append(what)

    # --- the thread

    def _run(self) -> None:
        try:
            tick = 0
            began_ns = self._follower.now_ns()
            while True:
                tick += self._ticks()
                wait_ns = began_ns + round(tick * self._tick_s * S) - self._follower.now_ns()
                if wait_ns < 0:
                    tick -= wait_ns // round(self._tick_s * S)  # ticks that were missed are not made up for
                elif self._stopping.wait(wait_ns / S):
                    break
                if self._stopping.is_set():
                    break
                now_ns = self._follower.now_ns() - self._zero_ns
                self._take(now_ns)
                self._give(self._until(now_ns))
            self._finish()
        except Exception as error:
            failure = internal(f"decoding failed: {error!r}", Phase.RECORDING)
            self._loop.call_soon_threadsafe(self._follower.fail, failure)

    def _ticks(self) -> int:
        """Until something is given out again."""
        if self._rest is None or self._pictures is None:
            return 1
        compositor, following = self._compositor, self._pictures.next
        pace = self._rest.pace(following, compositor.unique, is_still=compositor.is_still)
        if pace is not self._pace:
            self._pace = pace
            read = self._follower.batch_reads if pace is Pace.RESTS else self._follower.read_at_once
            self._loop.call_soon_threadsafe(read)
        return self._rest.slots if pace is Pace.RESTS else 1

    def _take(self, now_ns: int) -> None:
        inbox = self._inbox
        while inbox:
            match inbox.popleft():
                case int(at_ns), Selection() as selection:
                    self._compositor.select(selection, max(0, at_ns - self._zero_ns))
                case Track() as track, EncodedFrame() as frame:
                    self._compositor.put(track, frame.at_ns - self._zero_ns + self._delay_ns, frame)
                case Shedding() as what:
                    self._compositor.shed(what)
        self._ask_for_key(now_ns)
        for sid, reason in self._compositor.take_troubles().items():
            self._loop.call_soon_threadsafe(self._follower.leave_out, sid, reason)

    def _until(self, now_ns: int) -> int:
        looked_ns = self._looked_ns - self._zero_ns
        is_held_up = now_ns - looked_ns > round(self._look_s * S) + HELD_UP_NS
        known_ns = looked_ns if is_held_up else now_ns
        cuts = self._cuts
        complete_ns = self._compositor.complete_ns(known_ns)
        return self._horizon.advance(cuts.recorded_ns(now_ns), cuts.recorded_ns(complete_ns))

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
                if self._pictures is None:
                    self._tell_resumptions(self._blocks.next_ns)
                block = self._cuts.room_ns(self._blocks.next_ns) // BLOCK_NS
                samples = self._compositor.sound(block)
                self._sink.audio(samples, self._blocks.next_ns, SAMPLE_RATE)
                self._blocks.next += 1
        if self._pictures is None or self._pictures.next_ns >= until_ns:
            return False
        if is_left_out(self._pictures.next, self._behind_ns(self._pictures.next_ns)):
            self._left_out += 1
        else:
            picture_ns = self._pictures.next_ns
            self._tell_resumptions(picture_ns)
            self._sink.video(self._compositor.picture(self._cuts.room_ns(picture_ns)), picture_ns)
        self._pictures.next += 1
        return True

    def _tell_resumptions(self, next_ns: int) -> None:
        """Before what comes at `next_ns`."""
        assert self._sink is not None
        cuts = self._cuts
        while self._told_cuts < len(cuts.over) and cuts.resumed_ns(self._told_cuts) <= next_ns:
            self._sink.resumed(cuts.resumed_ns(self._told_cuts), cuts.length_ns(self._told_cuts))
            self._told_cuts += 1

    def _behind_ns(self, picture_ns: int) -> int:
        """By the horizon: what was waited for is not behind. At the end, which comes with all that still
        waits, by how long it has been waited for too."""
        waited_ns = self._follower.now_ns() - self._stop_ns if self._stop_ns else 0
        return max(self._horizon.ns - picture_ns, waited_ns)

    def _finish(self) -> None:
        end_ns = self._stop_ns - self._zero_ns
        self._take(end_ns)
        self._give(self._cuts.recorded_ns(end_ns))

    def _ask_for_key(self, now_ns: int) -> None:
        wanted = self._compositor.keys_wanted()
        if self._keys_asked:
            self._keys_asked = {sid: each for sid, each in self._keys_asked.items() if sid in wanted}
        for sid in wanted:
            asked = self._keys_asked.get(sid)
            if asked is not None and now_ns < asked.next_ns:
                continue
            pause_ns = min(asked.pause_ns * 2, LONGEST_KEY_PAUSE_NS) if asked else KEY_PAUSE_NS
            self._keys_asked[sid] = _Asked(now_ns + pause_ns, pause_ns)
            self._loop.call_soon_threadsafe(self._follower.request_key_frame, sid)
