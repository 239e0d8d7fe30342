"""What a server hands on by data channels, made into events."""

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from livekit.protocol.models import DataPacket, EncryptedPacket, EncryptedPacketPayload, UserPacket

from openegress.core.room_keys import RoomKey
from openegress.room.event_queue import EventQueue
from openegress.room.events import DataArrived, DataLocked, RoomEvent
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.server_messages import ServerMessages
from openegress.room.signalling.roster import Roster
from openegress.room.unix_clock import UnixClock
from testkit.sealed_frames import IV, AtOnce, derived

KEY = b"known to all"


async def told(*messages: bytes, keys: tuple[RoomKey, ...] = ()) -> list[RoomEvent]:
    events, clock = EventQueue(), UnixClock()
    clock.offset_ns = 1000
    cipher = RoomCipher(keys, AtOnce())
    listener = ServerMessages(Roster("recorder"), None, cipher, events, clock)  # type: ignore[arg-type]
    for message in messages:
        listener.on_data(message, 5)
    events.close()
    return [event async for event in events.stream()]


def sealed(plain: bytes) -> bytes:
    value = AESGCM(derived(KEY)).encrypt(IV, plain, None)
    packet = EncryptedPacket(iv=IV, key_index=0, encrypted_value=value)
    return DataPacket(participant_identity="ada", encrypted_packet=packet).SerializeToString()


USER: dict[str, Any] = {"user": UserPacket(payload=b"x", topic="t")}
PLAIN = DataPacket(participant_identity="ada", **USER)
SEALED = sealed(EncryptedPacketPayload(**USER).SerializeToString())


async def test_a_packet_arrives_on_our_clock() -> None:
    assert await told(PLAIN.SerializeToString()) == [DataArrived("ada", PLAIN, 1005)]


async def test_an_encrypted_packet_arrives_as_if_it_had_never_been() -> None:
    assert await told(SEALED, keys=(RoomKey(0, KEY),)) == [DataArrived("ada", PLAIN, 1005)]


@pytest.mark.parametrize("keys", [(), (RoomKey(0, b"another"),)])
async def test_what_is_locked_is_told_once(keys: tuple[RoomKey, ...]) -> None:
    # A key that does not fit may be one that a sender has ratcheted: that takes some packets to find out.
    (event,) = await told(*[SEALED] * 20, keys=keys)
    assert isinstance(event, DataLocked) and event.identity == "ada"


async def test_garbage_is_nothing() -> None:
    assert await told(b"\xff\xff", sealed(b"\xff\xff"), keys=(RoomKey(0, KEY),)) == []


class Answering:
    """A key service that is about to answer."""

    def __init__(self) -> None:
        self.is_awaited = True

    def want(self, identity: str, index: int | None = None) -> bool:
        return self.is_awaited


async def test_what_waits_for_a_key_comes_with_it_and_in_order() -> None:
    events, service = EventQueue(), Answering()
    cipher = RoomCipher((), AtOnce(), service)
    listener = ServerMessages(Roster("recorder"), None, cipher, events, UnixClock())  # type: ignore[arg-type]
    at_ns = time.monotonic_ns()
    listener.on_data(SEALED, at_ns)
    listener.on_data(SEALED, at_ns + 1)
    cipher.take([RoomKey(0, KEY)])
    listener.on_data(PLAIN.SerializeToString(), at_ns + 2)
    events.close()
    found = [event async for event in events.stream()]
    times = [event.at_ns for event in found if isinstance(event, DataArrived) and event.packet == PLAIN]
    assert times == sorted(times) and len(times) == 3
    await listener.close()


async def test_what_waits_for_a_key_is_tried_again_by_itself_and_then_told() -> None:
    events, service = EventQueue(), Answering()
    cipher = RoomCipher((), AtOnce(), service)
    listener = ServerMessages(Roster("recorder"), None, cipher, events, UnixClock())  # type: ignore[arg-type]
    listener.on_data(SEALED, time.monotonic_ns())
    service.is_awaited = False
    event = await anext(events.stream())
    assert isinstance(event, DataLocked) and event.identity == "ada"
    await listener.close()
