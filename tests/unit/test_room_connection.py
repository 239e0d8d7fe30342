"""The parts of a connection that need no socket: addresses, DTLS in memory, the names used of aioice."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, cast

import pytest
from aioice import ice as aioice
from aioice import stun
from aioice.candidate import Candidate
from OpenSSL import SSL

from openegress.core.errors import EgressError, Phase
from openegress.room.signalling.websocket import signal_url
from openegress.room.transport.dtls import DtlsError, DtlsSrtp, DtlsState, datagrams
from openegress.room.transport.fingerprint import Fingerprint
from openegress.room.transport.ice import IceConnection, TurnServer, turn_server


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("ws://host:7880", "ws://host:7880/rtc?"),
        ("wss://host", "wss://host/rtc?"),
        ("http://host:7880/", "ws://host:7880/rtc?"),
        ("https://host/some/path", "wss://host/some/path/rtc?"),
        ("wss://host/rtc", "wss://host/rtc?"),
        ("ws://[::1]:7880", "ws://[::1]:7880/rtc?"),
    ],
)
def test_signalling_address(url: str, start: str) -> None:
    address = signal_url(url)
    assert address.startswith(start)
    assert "auto_subscribe=0" in address
    assert "token" not in address


@pytest.mark.parametrize("url", ["", "host:7880", "ftp://host", "wss://"])
def test_what_is_no_signalling_address(url: str) -> None:
    with pytest.raises(EgressError) as caught:
        signal_url(url)
    assert caught.value.phase is Phase.SIGNALLING
    assert repr(url) in caught.value.message


@pytest.mark.parametrize(
    ("urls", "chosen"),
    [
        ([], None),
        (["stun:a:3478"], None),
        (["turn:a:1?transport=udp"], TurnServer("a", 1, "u", "c", "udp", False)),
        (["turn:a"], TurnServer("a", 3478, "u", "c", "udp", False)),
        (["turns:a"], TurnServer("a", 5349, "u", "c", "tcp", True)),
        (["turn:[::1]:1"], TurnServer("::1", 1, "u", "c", "udp", False)),
        (
            ["turn:a:1?transport=tcp", "turns:a:443?transport=tcp"],
            TurnServer("a", 443, "u", "c", "tcp", True),
        ),
        (["turns:a:443", "turn:a:3478?transport=udp"], TurnServer("a", 3478, "u", "c", "udp", False)),
    ],
)
def test_turn_server_choice(urls: list[str], chosen: TurnServer | None) -> None:
    assert turn_server([(urls, "u", "c")]) == chosen


def test_the_names_used_of_aioice_are_where_they_were() -> None:
    """When another version of aioice fails here, look at room.transport.ice."""
    connection = aioice.Connection(ice_controlling=False)
    for name in (
        "_check_list",
        "_local_candidates",
        "_nominated",
        "_protocols",
        "_remote_candidates",
        "remote_is_lite",
        "ice_controlling",
    ):
        assert hasattr(connection, name), name
    signatures: dict[Any, list[str]] = {
        aioice.Connection.get_component_candidates: ["self", "component", "addresses", "timeout"],
        aioice.Connection._pair_remote_candidate: ["self", "remote_candidate"],
        aioice.Connection.data_received: ["self", "data", "component"],
        aioice.Connection.protocol_lost: ["self", "protocol"],
        aioice.Connection.check_complete: ["self", "pair"],
        aioice.Connection.check_incoming: ["self", "message", "addr", "protocol"],
        aioice.StunProtocol.request: ["self", "request", "addr", "integrity_key", "retransmissions"],
        aioice.Connection.sort_check_list: ["self"],
        aioice.StunProtocol.datagram_received: ["self", "data", "addr"],
        aioice.StunProtocol.connection_lost: ["self", "exc"],
        aioice.CandidatePair.__init__: ["self", "protocol", "remote_candidate"],
        aioice.relayed_candidate: [
            "component",
            "hide_related_address",
            "protocol_factory",
            "turn_server",
            "turn_username",
            "turn_password",
            "turn_ssl",
            "turn_transport",
        ],
    }
    for function, parameters in signatures.items():
        assert list(inspect.signature(function).parameters) == parameters
    assert {"local_addr", "remote_addr", "local_candidate"} <= set(dir(aioice.CandidatePair))
    assert "get_component_candidates" in inspect.getsource(aioice.Connection.gather_candidates)
    remote_addr: Any = vars(aioice.CandidatePair)["remote_addr"]
    assert "_network_host" in inspect.getsource(remote_addr.fget)


# --- a relay


class Relay(asyncio.DatagramTransport):
    """In place of an allocation on a TURN server: what is sent over it."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("192.0.2.1", 5000), "related_address": ("192.0.2.2", 6000)})
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, addr: object = None) -> None:  # type: ignore[override]
        self.sent.append(data)


PEER = ("192.0.2.9", 7000)
RELAY = TurnServer("turn.example", 3478, "u", "c", "udp", False)


async def relayed(
    monkeypatch: pytest.MonkeyPatch, on_data: Callable[[bytes, int], None]
) -> tuple[IceConnection, aioice.StunProtocol, Relay]:
    """A connection with a relayed candidate, the protocol its datagrams come to, and what it sends over."""
    relay = Relay()

    async def create_turn_endpoint(
        protocol_factory: Callable[[], aioice.StunProtocol], **_: object
    ) -> tuple[Relay, aioice.StunProtocol]:
        protocol = protocol_factory()
        protocol.connection_made(relay)
        return relay, protocol

    monkeypatch.setattr("aioice.turn.create_turn_endpoint", create_turn_endpoint)
    connection = IceConnection(on_data=on_data, on_lost=lambda _: None, loopback=False, turn=RELAY, udp=False)
    candidates = await connection.add_relay()
    assert [(each.type, each.host, each.related_address) for each in candidates] == [
        ("relay", "192.0.2.1", "192.0.2.2")
    ]
    assert connection.local_candidates == candidates
    (protocol,) = connection._protocols
    return connection, protocol, relay


async def test_what_the_server_signs_is_a_sign_of_life_over_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a room with nothing subscribed, the server's checks of the path are all there is."""
    data: list[bytes] = []
    connection, protocol, relay = await relayed(monkeypatch, lambda each, _: data.append(each))
    check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    check.attributes["USERNAME"] = f"{connection.local_username}:server"
    check.attributes["PRIORITY"] = 1
    check.attributes["ICE-CONTROLLING"] = 1
    check.add_message_integrity(connection.local_password.encode())
    connection.remote_username, connection.remote_password = "server", "p" * 22
    await connection.gather_candidates()
    connecting = asyncio.create_task(connection.connect())
    await asyncio.sleep(0)
    protocol.datagram_received(bytes(check), PEER)
    assert connection.checks == 1
    await asyncio.sleep(0)  # our own check of whoever has checked us
    answer, ours = relay.sent
    assert stun.parse_message(answer).message_class is stun.Class.RESPONSE
    media = b"\x80" + bytes(20)
    protocol.datagram_received(media, PEER)
    assert data == []
    # Where the server is an ICE-lite one, the answers to our own checks.
    request = stun.parse_message(ours)
    for password in ("another password of 22", "p" * 22):
        response = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        response.add_message_integrity(password.encode())
        assert connection.checks == 1
        protocol.datagram_received(bytes(response), PEER)
        await asyncio.sleep(0.01)
    assert connection.checks == 2
    protocol.datagram_received(media, PEER)
    protocol.datagram_received(media, ("192.0.2.9", 7001))
    protocol.datagram_received(b"\x00nonsense", PEER)
    assert data == [media]
    assert connection.checks == 2
    assert connection._queue.empty()
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)


@pytest.mark.parametrize(
    "error", [OSError("refused"), TimeoutError(), stun.TransactionTimeout(), ConnectionError("no lifetime")]
)
async def test_a_relay_that_cannot_be_had_is_done_without(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr("aioice.turn.create_turn_endpoint", refuse)
    connection = IceConnection(
        on_data=cast(Callable[[bytes, int], None], None), on_lost=lambda _: None, loopback=False, turn=RELAY
    )
    with caplog.at_level("INFO", "openegress.room.transport.ice"):
        assert await connection.add_relay() == []
    assert connection._protocols == []
    assert f"turn.example:3478: {str(error) or 'no answer'}" in caplog.text


# --- DTLS


class Server:
    """A DTLS server in memory, with the client's own way to make a certificate."""

    def __init__(self, profiles: bytes = b"SRTP_AES128_CM_SHA1_80") -> None:
        self._made = DtlsSrtp(lambda _: None)
        self.fingerprint = self._made.fingerprint
        context = self._made._context()
        context.set_tlsext_use_srtp(profiles)
        self.ssl = SSL.Connection(context)
        self.ssl.set_accept_state()
        self.done = False

    def answer(self, sent: list[bytes]) -> list[bytes]:
        for each in sent:
            self.ssl.bio_write(each)
        try:
            self.ssl.do_handshake()
            self.done = True
        except SSL.WantReadError:
            pass
        try:
            return datagrams(self.ssl.bio_read(1 << 16), 1200)
        except SSL.WantReadError:
            return []


def shake_hands(server: Server, expected: Fingerprint) -> DtlsSrtp:
    sent: list[bytes] = []
    client = DtlsSrtp(sent.append)
    client.start(expected)
    for _ in range(6):
        outgoing, sent[:] = list(sent), []
        for each in server.answer(outgoing):
            client.received(each)
    return client


class Checked:
    """A socket that answers no check."""

    def __init__(self) -> None:
        self.requests: list[stun.Message] = []

    async def request(self, request: stun.Message, *_: object, **__: object) -> None:
        self.requests.append(request)
        raise stun.TransactionTimeout


def on_path(kind: str, host: str) -> tuple[IceConnection, Checked]:
    connection = IceConnection(on_data=lambda *_: None, on_lost=lambda _: None, loopback=False)
    connection.remote_is_lite = connection.ice_controlling = True
    connection.remote_username, connection.remote_password = "server", "p" * 22
    socket = Checked()
    local = Candidate("1", 1, "udp", 1, host, 9, kind)
    remote = Candidate("2", 1, "udp", 1, "192.0.2.9", 7001, "host")
    pair = aioice.CandidatePair(cast(aioice.StunProtocol, socket), remote)
    socket.local_candidate = local  # type: ignore[attr-defined]
    connection._nominated[1] = pair
    return connection, socket


async def test_a_path_is_nominated_anew_for_a_server_that_only_listens() -> None:
    connection, socket = on_path("host", "127.0.0.1")
    for _ in range(2):
        connection.renew()
        connection.renew()  # while the one before is under way
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ["USE-CANDIDATE" in each.attributes for each in socket.requests] == [True, True]


@pytest.mark.parametrize(
    ("kind", "host", "is_gone"),
    [
        ("host", "127.0.0.1", False),
        ("host", "192.0.2.77", True),
        ("host", "2001:db8::77", True),
        ("relay", "192.0.2.77", False),
    ],
)
async def test_an_address_that_this_host_has_lost(kind: str, host: str, is_gone: bool) -> None:
    connection, _ = on_path(kind, host)
    assert connection.is_address_gone() is is_gone


@pytest.mark.parametrize("profile", ["SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"])
def test_a_handshake_ends_with_srtp_sessions(profile: str) -> None:
    server = Server(profile.encode())
    client = shake_hands(server, server.fingerprint)
    assert client.state is DtlsState.CONNECTED
    assert server.done
    assert client.profile == profile
    assert client.tx is not None
    packet = bytes.fromhex("80c80001000000010000000000000000")
    assert client.tx.protect_rtcp(packet)[:4] == packet[:4]
    assert client.timeout_s() is None


def test_another_certificate_than_signalled_is_refused() -> None:
    with pytest.raises(DtlsError, match="does not match"):
        shake_hands(Server(), Fingerprint("sha-256", "00:11"))


def test_an_unknown_hash_is_refused() -> None:
    with pytest.raises(DtlsError, match="md5"):
        shake_hands(Server(), Fingerprint("md5", "00:11"))


def test_a_handshake_is_repeated_when_nothing_answers() -> None:
    sent: list[bytes] = []
    client = DtlsSrtp(sent.append)
    client.start(Fingerprint("sha-256", "00"))
    timeout_s = client.timeout_s()
    assert timeout_s is not None
    assert 0 < timeout_s <= 1
    assert len(sent) == 1


def test_the_servers_goodbye_is_noticed() -> None:
    server = Server()
    client = shake_hands(server, server.fingerprint)
    server.ssl.shutdown()
    client.received(server.ssl.bio_read(4096))
    assert client.state is DtlsState.CLOSED
    client.close()


def record(size: int) -> bytes:
    return bytes(11) + size.to_bytes(2) + bytes(size)


@pytest.mark.parametrize(
    ("sizes", "limit", "datagram_sizes"),
    [
        ([], 100, []),
        ([10], 100, [23]),
        ([10, 10, 10], 100, [69]),
        ([40, 40, 40], 110, [106, 53]),
        ([200, 10], 100, [213, 23]),
    ],
)
def test_records_are_packed_whole(sizes: list[int], limit: int, datagram_sizes: list[int]) -> None:
    flight = b"".join(record(each) for each in sizes)
    packed = datagrams(flight, limit)
    assert [len(each) for each in packed] == datagram_sizes
    assert b"".join(packed) == flight
