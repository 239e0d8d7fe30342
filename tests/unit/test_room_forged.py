"""Datagrams of strangers, and of whoever writes the server's address on them, from the handshake on."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from aioice import Candidate, Connection

from openegress.room.transport.dtls import DtlsSrtp, DtlsState, records
from openegress.room.transport.media import Transport
from tests.unit.test_room_connection import Server

WITHIN_S = 60.0
ROUNDS = 5


def record(kind: int, body: bytes, *, version: int = 0xFEFD, epoch: int = 0, sequence: int = 9) -> bytes:
    head = struct.pack("!BHH", kind, version, epoch)
    return head + sequence.to_bytes(6) + len(body).to_bytes(2) + body


def message(kind: int, body: bytes, sequence: int = 0, total: int | None = None, offset: int = 0) -> bytes:
    size = len(body) if total is None else total
    head = bytes([kind]) + size.to_bytes(3) + sequence.to_bytes(2) + offset.to_bytes(3)
    return head + len(body).to_bytes(3) + body


CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
HELLO, CERTIFICATE, FINISHED = 2, 11, 20
FORGED = {
    "a fatal alert": record(ALERT, b"\x02\x28"),
    "a warning": record(ALERT, b"\x01\x00"),
    "a long alert": record(ALERT, b"\x02\x28" * 20),
    "a goodbye": record(ALERT, b"\x01\x00", sequence=2**47),
    "a change of ciphers": record(CCS, b"\x01"),
    "a broken change of ciphers": record(CCS, b"\x07\x07"),
    "data in clear text": record(DATA, b"hello"),
    "data under no key": record(DATA, bytes(45), epoch=1),
    "a handshake under no key": record(HANDSHAKE, bytes(45), epoch=1),
    "an alert under no key": record(ALERT, bytes(45), epoch=1),
    "a client's hello": record(HANDSHAKE, message(1, bytes(60))),
    "a hello request": record(HANDSHAKE, message(0, b"")),
    "an end in clear text": record(HANDSHAKE, message(FINISHED, bytes(12))),
    "half a message": record(HANDSHAKE, message(HELLO, bytes(60))[:20]),
    "a fragment beyond its message": record(HANDSHAKE, message(HELLO, bytes(60), total=10)),
    "a message of 16 MiB": record(HANDSHAKE, message(CERTIFICATE, bytes(60), 1, total=0xFFFFFF)),
    "a hello of zeros": record(HANDSHAKE, message(HELLO, bytes(60))),
    "a certificate before the hello": record(HANDSHAKE, message(CERTIFICATE, bytes(60))),
    "a message of the future": record(HANDSHAKE, message(CERTIFICATE, bytes(60), 9)),
    "a number far ahead": record(HANDSHAKE, message(CERTIFICATE, bytes(60), 9), sequence=2**47),
    "an empty record": record(HANDSHAKE, b""),
    "another version": record(HANDSHAKE, message(HELLO, bytes(60)), version=0x0303),
    "an unknown kind": record(63, bytes(20)),
    "a heartbeat": record(24, b"\x01\x00\x10aaaa"),
    "less than a record's head": b"\x16\xfe",
    "less than a record says": record(HANDSHAKE, bytes(1000))[:33],
    "a record and half a one": record(DATA, b"x") + record(HANDSHAKE, bytes(1000))[:33],
}


@pytest.mark.parametrize("when", range(ROUNDS))
@pytest.mark.parametrize("name", FORGED)
def test_a_handshake_takes_no_notice_of_what_is_forged(name: str, when: int) -> None:
    server, sent = Server(), list[bytes]()
    client = DtlsSrtp(sent.append)
    client.start(server.fingerprint)
    for number in range(ROUNDS):
        outgoing, sent[:] = list(sent), []
        if number == when:
            client.received(FORGED[name])
        for each in server.answer(outgoing):
            client.received(each)
    assert client.state is DtlsState.CONNECTED
    assert server.done
    server.ssl.shutdown()
    client.received(server.ssl.bio_read(4096))
    assert client.state is DtlsState.CLOSED


def test_an_alert_in_clear_text_is_kept_for_the_error() -> None:
    client = DtlsSrtp(lambda _: None)
    client.start(Server().fingerprint)
    client.received(FORGED["a fatal alert"])
    assert client.state is DtlsState.CONNECTING
    assert client.alert == "alert 40"


def test_records_that_are_whole() -> None:
    one, other = record(HANDSHAKE, b"a"), record(DATA, b"bc")
    assert records(one + other) == [one, other]
    assert records(one + other[:-1]) == [one]
    assert records(record(HANDSHAKE, b"a", version=0x0303)) == []
    assert records(b"") == []


# --- with an address of its own


class Peer:
    """A LiveKit server's part: ICE, DTLS, and a packet or two."""

    def __init__(self) -> None:
        self.ice = Connection(ice_controlling=True)
        self.dtls = Server()

    async def serve(self) -> None:
        await self.ice.connect()
        while True:
            for each in self.dtls.answer([await self.ice.recv()]):
                await self.ice.send(each)


class Rig:
    def __init__(self) -> None:
        self.rtp: list[bytes] = []
        self.lost: list[str] = []
        self.transport = Transport(
            on_rtp=lambda packet, _: self.rtp.append(packet),
            on_rtcp=lambda packet, _: self.rtp.append(packet),
            on_lost=self.lost.append,
            loopback=True,
        )
        self.peer = Peer()
        self._stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stranger.bind(("127.0.0.1", 0))
        self._serving: asyncio.Task[None] | None = None

    async def gather(self) -> None:
        await asyncio.gather(self.transport.gather(), self.peer.ice.gather_candidates())
        self._port = self.transport._ice.local_candidates[-1].port

    async def connect(self) -> None:
        transport, peer = self.transport, self.peer
        peer.ice.remote_username, peer.ice.remote_password = transport.username, transport.password
        for ours in transport._ice.local_candidates:
            await peer.ice.add_remote_candidate(Candidate.from_sdp(ours.to_sdp()))
        for theirs in peer.ice.local_candidates:
            await transport.add_candidate("candidate:" + theirs.to_sdp())
        self._serving = asyncio.create_task(peer.serve())
        await transport.connect(
            peer.ice.local_username,
            peer.ice.local_password,
            peer.dtls.fingerprint,
            ice_lite=False,
            timeout_s=WITHIN_S,
            on_candidate=lambda _: None,
        )

    def attack(self) -> None:
        """All that is forged, packets, and STUN of all sorts, from an address that has answered no check."""
        media = [b"\x80" + bytes(40), b"\x81\xc8" + bytes(40)]
        for each in (*FORGED.values(), *media, *STUN):
            self._stranger.sendto(each, ("127.0.0.1", self._port))

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self.transport.close()
        await self.peer.ice.close()
        self._stranger.close()


def stun(kind: int, attributes: bytes = b"", *, size: int | None = None) -> bytes:
    length = len(attributes) if size is None else size
    return struct.pack("!HHI12s", kind, length, 0x2112A442, bytes(12)) + attributes


REQUEST, ANSWER = 0x0001, 0x0101
STUN = (
    b"\x00",
    b"\x01",
    stun(REQUEST),
    stun(ANSWER),
    stun(0x0111, b"\x00\x09\x00\x04\x00\x00\x04\x01"),  # an error
    stun(REQUEST, size=400),
    stun(REQUEST, b"\x00\x24\x00\x03\x00\x00\x00\x00"),  # a priority of three bytes
    stun(REQUEST, b"\x80\x2a\x00\x01\x00\x00\x00\x00"),  # a tie breaker of one
    stun(REQUEST, b"\x00\x06\x00\x04\xff\xff\xff\xff"),  # a name that is no text
    stun(REQUEST, b"\x00\x08\x00\x14" + bytes(20)),  # a signature of nobody
    stun(REQUEST, b"\x00\x24\xff\xff\x00\x00\x00\x00"),
    stun(0x3FFF),
)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.gather()
    yield rig
    await rig.close()


async def test_a_stranger_changes_nothing_before_during_and_after_the_handshake(rig: Rig) -> None:
    rig.attack()

    async def keep_on() -> None:
        while True:
            rig.attack()
            await asyncio.sleep(0.002)

    attacking = asyncio.create_task(keep_on())
    try:
        async with asyncio.timeout(WITHIN_S):
            await rig.connect()
    finally:
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)
    transport = rig.transport
    before = transport.datagrams
    for _ in range(20):
        rig.attack()
        transport.drain()
    assert transport._dtls.state is DtlsState.CONNECTED
    assert rig.lost == rig.rtp == []
    # Not one of them passes for a sign of life, and none gets as far as SRTP.
    assert (transport.datagrams, transport.bad_packets) == (before, 0)


async def test_the_servers_address_on_it_makes_no_packet(rig: Rig) -> None:
    await rig.connect()
    before = rig.transport.datagrams
    for forged in (b"\x80" + bytes(40), b"\x81\xc8" + bytes(40), *FORGED.values()):
        await rig.peer.ice.send(forged)
    rig.transport.drain()
    assert rig.transport.bad_packets == 2
    assert rig.transport.datagrams - before <= 1  # a check of the path may come in between
    assert (rig.transport._dtls.state, rig.lost, rig.rtp) == (DtlsState.CONNECTED, [], [])
