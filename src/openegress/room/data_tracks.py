"""LiveKit's data tracks: lists them, subscribes to them, and receives what they send."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from livekit.protocol.models import DataPacket, Encryption, ParticipantInfo, UserPacket
from livekit.protocol.rtc import DataTrackSubscriberHandles, UpdateDataSubscription

from openegress.core.recent import Recent
from openegress.core.tasks import cancelled
from openegress.room.rtp import data_track

MAX_PER_PARTICIPANT = 60
"""Limit for the tracks of one participant: the same as for topics in a file."""
MAX_HANDLES = 4096
"""Limit for the tracks of a room whose packets are told apart."""
MAX_ENDED = 256
"""Ended tracks that are remembered: the signal that a track has ended may overtake its last packets."""
LOCKED = "data tracks that are encrypted cannot be read"


class DataTracks:
    """The data tracks of one room. It subscribes to all of them, and delivers a frame as if it had been sent
    with the track's name as its topic."""

    def __init__(self, send: Callable[..., Awaitable[None]], on_locked: Callable[[str, str], None]) -> None:
        """`send`: sends a signal to the server. `on_locked`: gets an identity, and why its data is not
        read."""
        self._send = send
        self._on_locked = on_locked
        self._names: dict[str, dict[str, str]] = {}
        """The names of tracks, by identity and SID."""
        self._ended: Recent[str, str] = Recent(MAX_ENDED)
        """The names of ended tracks, by SID."""
        self._wanted: set[str] = set()
        """SIDs that are not requested from the server yet."""
        self._asked: set[str] = set()
        self._asking: asyncio.Task[None] | None = None
        self._publishers: Recent[int, tuple[str, str]] = Recent(MAX_HANDLES)
        """(identity, SID) by the handle in packets. The server reuses no handle soon."""
        self._frames = data_track.DataFrames()

    def joined(self) -> None:
        """Starts again: the new server does not know earlier requests."""
        self._names.clear()
        self._asked.clear()
        self._publishers.clear()

    def told(self, participants: Iterable[ParticipantInfo]) -> None:
        for participant in participants:
            if participant.state == ParticipantInfo.State.DISCONNECTED:
                self._set_names(participant.identity, {})
            elif participant.data_tracks or participant.identity in self._names:
                self._see(participant)
        if self._wanted and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(), name="data tracks")

    def handles(self, message: DataTrackSubscriberHandles) -> None:
        for handle, track in message.sub_handles.items():
            self._publishers[handle] = track.publisher_identity, track.track_sid

    def take(self, message: bytes) -> DataPacket | None:
        """Takes a packet. Returns a frame once its last packet has arrived; None before that, and for invalid
        packets."""
        packet = data_track.parse(message)
        publisher = self._publishers.get(packet.handle) if packet is not None else None
        if packet is None or publisher is None:
            return None
        identity, sid = publisher
        name = self._names.get(identity, {}).get(sid, self._ended.get(sid))
        payload = self._frames.take(packet)
        if name is None or payload is None:
            return None
        return DataPacket(participant_identity=identity, user=UserPacket(payload=payload, topic=name))

    async def close(self) -> None:
        task, self._asking = self._asking, None
        await cancelled(task)

    def _see(self, participant: ParticipantInfo) -> None:
        plain = [each for each in participant.data_tracks if each.encryption == Encryption.Type.NONE]
        if len(plain) < len(participant.data_tracks):
            self._on_locked(participant.identity, LOCKED)
        names = {each.sid: each.name for each in plain[:MAX_PER_PARTICIPANT]}
        self._set_names(participant.identity, names)
        self._wanted |= names.keys() - self._asked

    def _set_names(self, identity: str, names: dict[str, str]) -> None:
        for sid, name in self._names.pop(identity, {}).items():
            if sid not in names:
                self._ended[sid] = name
        if names:
            self._names[identity] = names

    async def _ask(self) -> None:
        while self._wanted:
            sids, self._wanted = sorted(self._wanted), set()
            self._asked.update(sids)
            updates = [UpdateDataSubscription.Update(track_sid=sid, subscribe=True) for sid in sids]
            await self._send(update_data_subscription=UpdateDataSubscription(updates=updates))
