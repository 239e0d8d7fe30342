"""Subscribes to the selected tracks of a recording, and to nothing else."""

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from functools import partial
from typing import Protocol

from openegress.core.errors import Code, EgressError
from openegress.room import EncodedFrame, Room, Track, VideoQuality
from openegress.room.events import KeyFrameArrived
from openegress.source.memory import Shedding
from openegress.source.room.selection import NOTHING, Selection


class Listener(Protocol):
    """A source that takes frames, on the event loop."""

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        """Takes a frame. `track` is as it was when subscribed; `frame.track_sid` may be newer."""

    def on_selection(self, selection: Selection) -> None:
        """Takes the selection after tracks were added, removed, muted or unmuted."""

    def shed(self, what: Shedding) -> None:
        """Drops media, because memory is short."""


class Intake(Enum):
    """The tracks to subscribe to."""

    SELECTED = auto()
    NOTHING = auto()
    """The recording is paused, but still follows participants and publications."""


class SubscribedTracks:
    """The subscribed tracks of one recording. Subscribes to nothing before listen()."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._listener: Listener | None = None
        self._beside: Listener | None = None
        self._subscribed: dict[str, Track] = {}
        self._asked: dict[str, VideoQuality] = {}
        """The requested quality, by SID."""
        self._takes_best = False
        self._intake = Intake.SELECTED
        self._applying = asyncio.Lock()
        self.selection = NOTHING
        self.arrived: dict[str, int] = {}
        """Unix ns of the first packet of each track, by SID."""
        self.key_frames: dict[str, KeyFrameArrived] = {}
        """The first key frame of each video track, by SID."""

    def take_best(self) -> None:
        """Call it before listen(): every video comes in the best available quality."""
        self._takes_best = True

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    def listen_too(self, listener: Listener) -> None:
        """Adds a second listener, which gets everything that the first one gets, after it."""
        self._beside = listener

    def stop_listening(self) -> None:
        self._listener = self._beside = None

    def takes(self, sid: str) -> bool:
        """Whether it is subscribed to and still selected."""
        return sid in self._subscribed and any(track.sid == sid for track in self.selection.tracks)

    @property
    def have_arrived(self) -> bool:
        """Whether each selected, unmuted track has sent its first packet."""
        return all(track.sid in self.arrived or track.muted for track in self.selection.tracks)

    def last_arrival_ns(self) -> int | None:
        """Unix ns at which the last of the selected tracks arrived; None: none has."""
        selected = {track.sid for track in self.selection.tracks}
        return max((at for sid, at in self.arrived.items() if sid in selected), default=None)

    def take_in(self, intake: Intake) -> None:
        """Changes the tracks to subscribe to, from the next apply() on."""
        self._intake = intake
        if intake is Intake.SELECTED:
            self.arrived.clear()

    async def release(self) -> None:
        """Unsubscribes from all tracks; media that the room client still holds reaches the listener first."""
        sids = {*self._subscribed, *self._room.subscribed()}
        self._subscribed = {}
        if sids:
            await self._room.unsubscribe(sids)

    async def apply(self) -> None:
        """Subscribes to selected tracks and to nothing else."""
        if self._listener is None:
            return
        self._listener.on_selection(self.selection)
        if self._beside is not None:
            self._beside.on_selection(self.selection)
        async with self._applying:
            selection = self.selection
            taken = selection.tracks if self._intake is Intake.SELECTED else ()
            wanted = {track.sid: track for track in taken}
            # The room may hold a track under a SID that was not requested here.
            gone = [sid for sid in {*self._subscribed, *self._room.subscribed()} if sid not in wanted]
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
        """Forgets tracks that are unsubscribed or no longer published: reports about a track may come after
        its end, and people may publish any number of tracks."""
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
            # It was just unpublished: its event is on the way.
            self._subscribed.pop(track.sid, None)

    async def _ask(self, selection: Selection) -> None:
        for sid, quality in selection.qualities.items():
            if sid in self._subscribed and self._asked.get(sid) != quality:
                self._asked[sid] = quality
                await self._room.set_quality(sid, quality)

    def _on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._listener is not None:
            self._listener.on_frame(track, frame)
        if self._beside is not None:
            self._beside.on_frame(track, frame)
