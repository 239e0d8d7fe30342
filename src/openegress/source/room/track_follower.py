"""A room joined for one egress: it keeps the selection subscribed as tracks come and go, and knows the end.

The room is the client's; what to record is selection's; what to do with frames is the listener's.
Everything here runs on the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Protocol

from openegress.core.errors import Code, EgressError, Fault, Phase, internal, invalid
from openegress.core.events import EndReason
from openegress.core.left_out import TrackLosses
from openegress.request.pausing import order_of
from openegress.room import (
    ConnectionLost,
    EncodedFrame,
    Joined,
    KeyFrameArrived,
    MediaArrived,
    OwnMetadataChanged,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantRenamed,
    Reconnected,
    Room,
    RoomClosed,
    RoomEvent,
    SpeakersChanged,
    SubscriptionFailed,
    Track,
    TrackLeftOut,
    TrackMuted,
    TrackPublished,
    TrackSubscribed,
    TrackTakenAgain,
    TrackUnpublished,
    VideoQuality,
)
from openegress.room.budget import CHANGES, Reason, TokenBucket
from openegress.source import Closed, Failed, Muted, Notice, PauseAsked, SourceEvent
from openegress.source.memory import Ceiling, Shedding, give_back, own_bytes
from openegress.source.room.composite.layout_policy import layout_in
from openegress.source.room.selection import NOTHING, Missing, Selection, Verdict
from openegress.source.room.track_policy import RoomState, TrackPolicy

MEMORY_EVERY_S = 1.0
"""Between two looks at the memory: what is shed needs a moment to be given back."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what others do, in seconds."""

    track_s: float = 10.0
    """For a track that the request names: it is published already, or about to be."""
    participant_s: float = 30.0
    """For a participant that the request names to join; upstream waits as long."""
    absence_s: float = 5.0
    """For a participant who left to come back: a browser that is reloaded takes about that."""
    rejoin_s: float = 20.0
    """For publishers to come back after the server was restarted; their SDKs try for longer than that."""


class Listener(Protocol):
    """What it tells its source, on the event loop."""

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        """`track` as it was when it was subscribed; `frame.track_sid` may be newer."""

    def on_selection(self, selection: Selection) -> None:
        """Tracks were added, taken away, muted or unmuted."""

    def shed(self, what: Shedding) -> None:
        """Memory is short."""


class Intake(Enum):
    """What is subscribed to."""

    SELECTED = auto()
    NOTHING = auto()
    """The recording is paused. Who is there, and what they publish, is followed all the same."""


class TrackFollower:
    """Join, wait for what the request names, follow it, and end."""

    def __init__(
        self,
        room: Room,
        room_name: str,
        cast: TrackPolicy,
        patience: Patience | None = None,
        memory_bytes: int = 0,
    ) -> None:
        """`memory_bytes`: what this process may take before it sheds; 0: as much as there is."""
        self._room = room
        self._room_name = room_name
        self._policy = cast
        self._patience = patience or Patience()
        self._listener: Listener | None = None
        self._events: asyncio.Queue[SourceEvent | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._absence: asyncio.TimerHandle | None = None
        self._recheck: asyncio.TimerHandle | None = None
        self._rechecking: asyncio.Task[None] | None = None
        self._ceiling = Ceiling(memory_bytes)
        self._memory: asyncio.Task[None] | None = None
        self._changes = TokenBucket(CHANGES)
        self._deferred: asyncio.TimerHandle | None = None
        """While changes wait to be looked at together."""
        self._applying = asyncio.Lock()
        self._rejoined_at: float | None = None
        self._subscribed: dict[str, Track] = {}
        self._asked: dict[str, VideoQuality] = {}
        """What has been asked for of each track by SID."""
        self._takes_best = False
        self._intake = Intake.SELECTED
        self._speakers: tuple[str, ...] = ()
        self._metadata = ""
        self._over: SourceEvent | None = None
        self._began = False
        self.selection = NOTHING
        self.arrived: dict[str, int] = {}
        """Unix ns of the first packet of each track by SID."""
        self.key_frames: dict[str, KeyFrameArrived] = {}
        """The first key frame of each video track by SID."""
        self.joined = Joined("", "")

    async def join(self) -> None:
        """Joins and waits until what the request names is there.

        Raises EgressError: NOT_FOUND for a track or participant that does not appear, or what the room
        client has to say about the connection.
        """
        self.joined = await self._room.join()
        self._follower = asyncio.create_task(self._follow(), name="room events")
        self._connecting = asyncio.create_task(self._connect(), name="room media path")
        self._reselect()
        await self._until_there()
        wrong = self._policy.wrong_kind(self._state())
        if wrong:
            raise invalid(f"track {wrong} is not of the kind that the request takes it for: audio or video")
        self._began = True

    def take_best(self) -> None:
        """Before subscribe(): every video in the best quality there is."""
        self._takes_best = True

    async def subscribe(self, listener: Listener) -> None:
        """Frames and changes go to `listener` from here on. Returns when the media path is up.

        Raises EgressError when it does not come up, or the room closed meanwhile.
        """
        self._listener = listener
        self._memory = asyncio.create_task(self._watch_memory(listener), name="room memory")
        await self._apply()
        assert self._connecting is not None
        await asyncio.wait({self._connecting})
        if self._over is not None:
            raise self._refusal()

    async def wait_for_media(self, timeout_s: float) -> None:
        """Until each selected track that is not muted has sent its first packet, or time is up.

        Raises EgressError when the room closed meanwhile.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while any(t.sid not in self.arrived and not t.muted for t in self.selection.tracks):
                    self._changed.clear()
                    if self._over is not None:
                        raise self._refusal()
                    await self._changed.wait()
        except TimeoutError:
            self.notice("no media from some tracks yet", after_s=timeout_s)

    async def first_key_frame(self, sid: str) -> KeyFrameArrived:
        """Raises EgressError when the room closed meanwhile."""
        while (found := self.key_frames.get(sid)) is None:
            self._changed.clear()
            if self._over is not None:
                raise self._refusal()
            await self._changed.wait()
        return found

    async def release(self) -> None:
        """Unsubscribes; what the room client still holds of the tracks reaches the listener first."""
        sids, self._subscribed = list(self._subscribed), {}
        if sids:
            await self._room.unsubscribe(sids)

    async def pause(self) -> None:
        """Unsubscribes; what the room client still holds of the tracks reaches the listener first."""
        self._intake = Intake.NOTHING
        await self._apply()

    async def resume(self, timeout_s: float) -> int:
        """Subscribes again; returns the unix ns at which the last of the tracks was there, or now where none
        is. Raises as wait_for_media() does."""
        self._intake = Intake.SELECTED
        self.arrived.clear()
        await self._apply()
        await self.wait_for_media(timeout_s)
        selected = {track.sid for track in self.selection.tracks}
        return max((at for sid, at in self.arrived.items() if sid in selected), default=self.now_ns())

    def now_ns(self) -> int:
        """Unix time on the clock of the frames."""
        return self._room.now_ns()

    def batch_reads(self) -> None:
        """See Room."""
        self._room.batch_reads()

    def read_at_once(self) -> None:
        """See Room."""
        self._room.read_at_once()

    def drain(self) -> None:
        """See Room."""
        self._room.drain()

    def request_key_frame(self, sid: str) -> None:
        self._room.request_key_frame(sid)

    def leave_out(self, sid: str, reason: Reason) -> None:
        """See Room."""
        self._room.leave_out(sid, reason)

    def losses(self) -> tuple[TrackLosses, ...]:
        """See Room."""
        return tuple(self._room.losses())

    def fail(self, error: EgressError) -> None:
        """The source has found out that it cannot go on."""
        self._end(Failed(error))

    def notice(self, text: str, **fields: str | int | float | bool | None) -> None:
        self._events.put_nowait(Notice(text, fields))

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Until close(). One Closed or Failed at most."""
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """Leaves the room. Idempotent."""
        self._listener = None
        self._cancel_absence()
        if self._deferred is not None:
            self._deferred.cancel()
        if self._recheck is not None:
            self._recheck.cancel()
        started = (self._follower, self._connecting, self._rechecking, self._memory)
        tasks = [task for task in started if task is not None]
        self._follower = self._connecting = self._rechecking = self._memory = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._room.close()
        self._events.put_nowait(None)

    async def _watch_memory(self, listener: Listener) -> None:
        while True:
            await asyncio.sleep(MEMORY_EVERY_S)
            used = own_bytes("self")
            shedding = self._ceiling.look(used)
            if shedding is not Shedding.NOTHING:
                self.notice("memory is short", used_mib=used // 2**20, dropped=shedding.name.lower())
                listener.shed(shedding)
                give_back()

    # --- waiting for the start

    async def _until_there(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self._changed.clear()
            what, name = self._policy.missing(self._state(), self.selection)
            if self._over is not None:
                raise self._refusal()
            self._refuse_encrypted(what, name)
            match what:
                case Missing.NOTHING:
                    return
                case Missing.TRACK:
                    deadline_s = began + self._patience.track_s
                case Missing.PARTICIPANT:
                    deadline_s = began + self._patience.participant_s
                case Missing.PUBLICATION:
                    deadline_s = float("inf")  # a participant may come long before the camera is switched on
            try:
                async with asyncio.timeout_at(None if deadline_s == float("inf") else deadline_s):
                    await self._changed.wait()
            except TimeoutError:
                raise EgressError(
                    Code.NOT_FOUND,
                    f"{'track' if what is Missing.TRACK else 'participant'} {name} not found",
                    phase=Phase.FIRST_TRACK,
                ) from None

    def _refuse_encrypted(self, what: Missing, name: str) -> None:
        """Raises EgressError where what is waited for is there, and of no use."""
        for track in self._room.tracks():
            named = {Missing.TRACK: track.sid, Missing.PUBLICATION: track.participant.identity}
            lock = self._room.lock(track) if named.get(what) == name else None
            if lock is not None:
                raise EgressError(
                    Code.FAILED_PRECONDITION,
                    f"track {track.sid} of {track.participant.identity} is end-to-end encrypted, and {lock}",
                    phase=Phase.FIRST_TRACK,
                )

    def _refusal(self) -> EgressError:
        if isinstance(self._over, Failed):
            return self._over.error
        return EgressError(
            Code.UNAVAILABLE,
            f"room {self._room_name} was closed before there was anything to record",
            phase=Phase.FIRST_TRACK,
        )

    async def _connect(self) -> None:
        try:
            await self._room.connected()
        except EgressError as error:
            self._end(Failed(error))

    # --- following the room

    async def _follow(self) -> None:
        try:
            async for event in self._room.events():
                await self._on_event(event)
        except EgressError as error:
            self._end(Failed(error))
        except Exception as error:
            self._end(Failed(internal(f"the room could not be followed: {error!r}", Phase.RECORDING)))
        finally:
            self._changed.set()

    async def _on_event(self, event: RoomEvent) -> None:
        match event:
            case (
                TrackPublished()
                | TrackUnpublished()
                | TrackMuted()
                | ParticipantJoined()
                | ParticipantLeft()
                | ParticipantRenamed()
            ):
                if isinstance(event, TrackMuted) and self._is_single(event.track):
                    self._events.put_nowait(Muted(event.track.muted, self.now_ns()))
                if isinstance(event, TrackPublished) and (lock := self._room.lock(event.track)) is not None:
                    text = "track left out: it is end-to-end encrypted"
                    self.notice(text, track=event.track.sid, reason=str(lock))
                await self._change()
            case SpeakersChanged(identities):
                self._speakers = identities
                await self._change()
            case OwnMetadataChanged(metadata):
                if (order := order_of(layout_in(metadata))) is not None:
                    self._events.put_nowait(PauseAsked(order))
                else:
                    self._metadata = metadata
                    await self._change()
            case MediaArrived(track, at_ns):
                self.arrived.setdefault(track.sid, at_ns)
                self._changed.set()
            case KeyFrameArrived(track):
                self.key_frames[track.sid] = event
                self._changed.set()
            case TrackSubscribed(track, codec):
                self.notice("track subscribed", track=track.sid, codec=codec.value)
            case SubscriptionFailed(sid, reason):
                self._on_subscription_failed(sid, reason)
            case TrackLeftOut(sid, identity, why, for_s):
                self.notice("track left out", track=sid, identity=identity, reason=str(why), for_s=for_s)
                if why is Reason.WRONG_KEY:
                    self._refuse_named(sid, identity)
                await self._change()
            case TrackTakenAgain(sid, identity):
                self.notice("track taken again", track=sid, identity=identity)
                await self._change()
            case ConnectionLost(reason):
                self.notice("connection to room lost", reason=reason)
                # Nobody has left: it is us who do not see them.
                self._rejoined_at = asyncio.get_running_loop().time()
                self._cancel_absence()
            case Reconnected(after_s):
                self.notice("connection to room is back", after_s=after_s)
                self._rejoined_at = asyncio.get_running_loop().time()
                await self._change()
            case RoomClosed(reason, failed):
                self._on_closed(reason, failed)
            case Joined():
                pass

    def _refuse_named(self, sid: str, identity: str) -> None:
        """Nothing of the track could be decrypted so far."""
        track = next((each for each in self.selection.tracks if each.sid == sid), None)
        if track is not None and self._policy.names(track, self.selection):
            text = f"track {sid} of {identity} cannot be recorded: {Reason.WRONG_KEY}"
            self._end(Failed(EgressError(Code.FAILED_PRECONDITION, text, phase=Phase.FIRST_TRACK)))

    def _is_single(self, track: Track) -> bool:
        """The one track that is recorded, whatever SID it has by now."""
        return bool(self._policy.single_track_id) and any(t.sid == track.sid for t in self.selection.tracks)

    def _on_subscription_failed(self, sid: str, reason: str) -> None:
        if sid not in self._subscribed or all(track.sid != sid for track in self.selection.tracks):
            return
        self.notice("failed to subscribe to track", track=sid, reason=reason)
        if self._policy.needs(sid, self.selection):
            self._end(
                Failed(
                    EgressError(
                        Code.UNAVAILABLE,
                        f"failed to subscribe to track {sid}: {reason}",
                        fault=Fault.SERVICE,
                        phase=Phase.FIRST_TRACK,
                    )
                )
            )

    def _on_closed(self, reason: str, failed: bool) -> None:
        if not failed:
            self._end(Closed())
            return
        text = "recording ended early: connection to room failed"
        self._end(
            Failed(
                EgressError(
                    Code.UNAVAILABLE,
                    f"{text}: {reason}" if reason else text,
                    fault=Fault.SERVICE,
                    phase=Phase.RECORDING if self._began else Phase.SIGNALLING,
                )
            )
        )

    def _state(self) -> RoomState:
        out = self._room.left_out()
        tracks = [track for track in self._room.tracks() if self._room.lock(track) is None]
        return RoomState(
            # Nothing comes of one that is left out: it is as good as muted.
            [replace(track, muted=True) if track.sid in out else track for track in tracks],
            self._room.participants(),
            self._speakers,
            self._metadata,
            self._rejoined_at is not None,
            self._rejoined_recently(),
            asyncio.get_running_loop().time(),
        )

    def _reselect(self) -> None:
        state = self._state()
        self.selection = self._policy.select(state, self.selection)
        self._changed.set()
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        if self._policy.recheck_at_s is not None:
            loop = asyncio.get_running_loop()
            self._recheck = loop.call_at(self._policy.recheck_at_s, self._begin_recheck)
        if self._began:
            self._judge(state)

    async def _change(self) -> None:
        """Something has changed in the room: it is looked at now, or soon with what else changes."""
        now_ns = time.monotonic_ns()
        if self._deferred is not None:
            return
        if self._changes.left(now_ns) >= 1:
            self._changes.spend(1, now_ns)
            self._reselect()
            await self._apply()
        else:
            self._defer()

    def _defer(self) -> None:
        self._deferred = asyncio.get_running_loop().call_later(1 / CHANGES.per_s, self._end_deferral)

    def _end_deferral(self) -> None:
        self._deferred = None
        if self._rechecking is not None and not self._rechecking.done():
            self._defer()
        else:
            self._begin_recheck()

    def _begin_recheck(self) -> None:
        if self._rechecking is None or self._rechecking.done():
            self._rechecking = asyncio.create_task(self._select_anew(), name="room recheck")

    async def _select_anew(self) -> None:
        """Time has passed and nothing else happened."""
        try:
            self._reselect()
            await self._apply()
        except EgressError as error:
            self._end(Failed(error))

    def _judge(self, state: RoomState) -> None:
        recently = state.rejoined_recently
        match self._policy.verdict(state, self.selection):
            case Verdict.GO_ON:
                self._cancel_absence()
            case Verdict.END:
                self._end(Closed())
            case Verdict.END_EMPTY:
                self._end(Closed(EndReason.EMPTY))
            case Verdict.END_IDLE:
                self._end(Closed(EndReason.IDLE))
            case Verdict.END_UNLESS_BACK:
                if self._absence is None:
                    grace_s = self._patience.rejoin_s if recently else self._patience.absence_s
                    self._absence = asyncio.get_running_loop().call_later(grace_s, self._end, Closed())

    def _rejoined_recently(self) -> bool:
        if self._rejoined_at is None:
            return False
        return asyncio.get_running_loop().time() - self._rejoined_at < self._patience.rejoin_s

    def _cancel_absence(self) -> None:
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None

    async def _apply(self) -> None:
        """Subscribes to what is selected and to nothing else."""
        if self._listener is None or self._over is not None:
            return
        self._listener.on_selection(self.selection)
        async with self._applying:
            selection = self.selection
            taken = selection.tracks if self._intake is Intake.SELECTED else ()
            wanted = {track.sid: track for track in taken}
            gone = [sid for sid in self._subscribed if sid not in wanted]
            new = [track for sid, track in wanted.items() if sid not in self._subscribed]
            self._subscribed = {**wanted}
            self._forget(gone)
            if gone:
                await self._room.unsubscribe(gone)
            for track in new:
                await self._subscribe(track)
            if not self._takes_best:
                await self._ask(selection)

    def _forget(self, gone: Iterable[str]) -> None:
        """What was known of tracks by SID, and of those that are not published any more: news of one may come
        after its end, and people may publish without end."""
        published = {track.sid for track in self._room.tracks()}
        for known in (self._asked, self.arrived, self.key_frames):
            for sid in {*gone, *(known.keys() - published)}:
                known.pop(sid, None)

    async def _subscribe(self, track: Track) -> None:
        try:
            await self._room.subscribe([track.sid], partial(self._on_frame, track))
        except EgressError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            # Unpublished just now: its event is on the way.
            self._subscribed.pop(track.sid, None)

    async def _ask(self, selection: Selection) -> None:
        for sid, quality in selection.qualities.items():
            if sid in self._subscribed and self._asked.get(sid) != quality:
                self._asked[sid] = quality
                await self._room.set_quality(sid, quality)

    def _on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._listener is not None:
            self._listener.on_frame(track, frame)

    def _end(self, event: SourceEvent) -> None:
        if self._over is None:
            self._over = event
            self._events.put_nowait(event)
            self._changed.set()
