"""Turns the server's messages about a room into events, and into changes of the roster and of
subscriptions."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from google.protobuf.message import DecodeError
from livekit.protocol.models import DataPacket, EncryptedPacketPayload, ParticipantInfo, SubscriptionError
from livekit.protocol.rtc import JoinResponse, SignalResponse, SubscriptionPermissionUpdate

from openegress.core.units import S
from openegress.room.data_tracks import DataTracks
from openegress.room.event_queue import EventQueue
from openegress.room.events import (
    DataArrived,
    DataLocked,
    RoomEvent,
    SubscriptionFailed,
    TrackPublished,
    TrackUnpublished,
)
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.signalling import sdp
from openegress.room.signalling.enum_names import name_of
from openegress.room.signalling.participant_updates import CATCH_UP_PAUSE_S, ParticipantUpdates
from openegress.room.signalling.roster import RETURN_GRACE_S, Roster, RosterEvent
from openegress.room.subscriptions import Subscriptions
from openegress.room.unix_clock import UnixClock

MAX_HELD = 100
"""Limit for data packets, each of at most 64 KiB, that wait for their key."""
HELD_FOR_NS = 15 * S
RETRY_S = 0.25
MAX_LOCKED = 1000
"""Limit for the people whose locked data is reported."""


class ServerMessages:
    """Implements MembershipListener."""

    def __init__(
        self,
        roster: Roster,
        subscriptions: Subscriptions,
        cipher: RoomCipher,
        events: EventQueue,
        clock: UnixClock,
        send: Callable[..., Awaitable[None]] | None = None,
    ) -> None:
        """`send` sends a signal to the server if data tracks are requested; None: they are not."""
        self._roster = roster
        self._subscriptions = subscriptions
        self._cipher = cipher
        self._events = events
        self._clock = clock
        self._data_tracks = DataTracks(send, self._tell_locked) if send is not None else None
        self._updates = ParticipantUpdates()
        self._catching_up: asyncio.TimerHandle | None = None
        """Runs while updates of participants wait."""
        self._locked: set[str] = set()
        """Identities whose data was reported as locked."""
        self._held: deque[tuple[bytes, int]] = deque(maxlen=MAX_HELD)
        """Packets with their arrival in monotonic ns."""
        self._retry: asyncio.TimerHandle | None = None
        self._joins = 0
        self._settled_at = 0.0
        """Until then, tracks that end may come back after joining again; monotonic seconds."""
        self._expiry: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        if self._data_tracks is not None:
            await self._data_tracks.close()
        for timer in (self._expiry, self._catching_up, self._retry):
            if timer is not None:
                timer.cancel()

    # --- ConnectionListener

    def on_join(self, join: JoinResponse) -> None:
        """Takes everybody who is there when we join."""
        now_s = time.monotonic()
        self._joins += 1
        if self._joins > 1:
            self._settled_at = now_s + RETURN_GRACE_S
        self._cipher.server_mark = join.sif_trailer
        self._updates.clear()
        self._publish(self._roster.joined(join.other_participants, now_s))
        if self._data_tracks is not None:
            self._data_tracks.joined()
            self._data_tracks.told(join.other_participants)

    def on_message(self, message: SignalResponse) -> None:
        match message.WhichOneof("message"):
            case "update":
                self._update(self._updates.take(message.update.participants, time.monotonic_ns()))
                self._catch_up_later()
            case "data_track_subscriber_handles" if self._data_tracks is not None:
                self._data_tracks.handles(message.data_track_subscriber_handles)
            case "speakers_changed":
                self._publish(self._roster.speaking(message.speakers_changed.speakers))
            case "connection_quality":
                self._publish(self._roster.qualities(message.connection_quality.updates))
            case "subscription_response":
                response = message.subscription_response
                reason = name_of(SubscriptionError, response.err).removeprefix("se ")
                self.emit(SubscriptionFailed(response.track_sid, reason))
            case "subscription_permission_update":
                self._permission(message.subscription_permission_update)

    def on_data(self, message: bytes, arrival_ns: int) -> None:
        self._read_held()
        self._read(message, arrival_ns)

    def on_data_track(self, packet: bytes, arrival_ns: int) -> None:
        frame = self._data_tracks.take(packet) if self._data_tracks is not None else None
        if frame is not None:
            self.emit(DataArrived(frame.participant_identity, frame, self._clock.offset_ns + arrival_ns))

    def on_offer(self, offer: sdp.Offer) -> None:
        self._subscriptions.offered(offer)

    def expects_media(self) -> bool:
        return self._subscriptions.expect_media

    # --- MembershipListener

    def emit(self, event: RoomEvent) -> None:
        self._events.put(event)

    def on_end(self) -> None:
        self._subscriptions.flush()

    async def on_open_again(self) -> None:
        await self._subscriptions.request_again()

    def on_joined_again(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._watch_absent()

    # --- inside

    def _read(self, message: bytes, arrival_ns: int) -> None:
        try:
            packet = DataPacket.FromString(message)
            if packet.WhichOneof("value") == "encrypted_packet":
                packet = self._decrypted(packet, arrival_ns)
        except DecodeError:
            return  # a stranger's
        except Undecryptable as error:
            if error.is_certain or time.monotonic_ns() - arrival_ns > HELD_FOR_NS:
                self._tell_locked(packet.participant_identity, str(error))
            else:
                self._hold(message, arrival_ns)
            return
        identity = packet.participant_identity
        self.emit(DataArrived(identity, packet, self._clock.offset_ns + arrival_ns))

    def _hold(self, message: bytes, arrival_ns: int) -> None:
        """Holds a packet until its key has been derived, or a key service has answered."""
        self._held.append((message, arrival_ns))
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._read_held)

    def _read_held(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        held = list(self._held)
        self._held.clear()
        for message, arrival_ns in held:
            self._read(message, arrival_ns)

    def _decrypted(self, packet: DataPacket, now_ns: int) -> DataPacket:
        """The packet as if it had never been encrypted. Raises Undecryptable and DecodeError."""
        sealed = packet.encrypted_packet
        identity = packet.participant_identity
        plain = self._cipher.open_data(identity, sealed.key_index, sealed.iv, sealed.encrypted_value, now_ns)
        opened = DataPacket(participant_identity=identity, participant_sid=packet.participant_sid)
        payload = EncryptedPacketPayload.FromString(plain)
        if (name := payload.WhichOneof("value")) is not None:
            getattr(opened, name).CopyFrom(getattr(payload, name))
        return opened

    def _tell_locked(self, identity: str, why: str) -> None:
        if identity not in self._locked and len(self._locked) < MAX_LOCKED:
            self._locked.add(identity)
            self.emit(DataLocked(identity, why))

    def _watch_absent(self) -> None:
        """Reports those as gone who were there before the new join and are not back after a while."""
        self._expiry = None
        now_s = time.monotonic()
        self._publish(self._roster.expire(now_s))
        if self._roster.waiting or now_s < self._settled_at:
            self._expiry = asyncio.get_running_loop().call_later(1.0, self._watch_absent)
            return
        self._subscriptions.drop_absent()

    def _update(self, told: list[ParticipantInfo]) -> None:
        self._publish(self._roster.updated(told))
        if self._data_tracks is not None:
            self._data_tracks.told(told)

    def _catch_up_later(self) -> None:
        if self._updates.are_waiting and self._catching_up is None:
            self._catching_up = asyncio.get_running_loop().call_later(CATCH_UP_PAUSE_S, self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = None
        self._update(self._updates.due(time.monotonic_ns()))
        self._catch_up_later()

    def _permission(self, update: SubscriptionPermissionUpdate) -> None:
        if not update.allowed:
            reason = "its publisher does not allow the recorder to subscribe"
            self.emit(SubscriptionFailed(update.track_sid, reason))

    def _publish(self, events: list[RosterEvent]) -> None:
        moved: list[str] = []
        returning = {each.track.key for each in events if isinstance(each, TrackPublished)}
        for event in events:
            match event:
                case TrackPublished(track):
                    if self._subscriptions.take_over(track):
                        moved.append(track.sid)
                case TrackUnpublished(track) if track.key not in returning and not self._is_settling():
                    self._subscriptions.drop(track.sid)
            self.emit(event)
        if moved:
            self._subscriptions.request_soon(moved)

    def _is_settling(self) -> bool:
        """Whether ended tracks may still be published again after a new join."""
        return time.monotonic() < self._settled_at
