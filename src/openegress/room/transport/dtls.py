"""A DTLS-SRTP client (RFC 5764) without a socket: datagrams in, datagrams out, SRTP keys at the end.

pyOpenSSL does the handshake in memory, and pylibsrtp handles the packets. Everything is synchronous, so that
media needs no task or queue between the socket and its receiver.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from pylibsrtp import Policy, Session

from openegress.room.transport.fingerprint import Fingerprint

DTLS1_2 = 0xFEFD
MTU_BYTES = 1200
"""Maximum payload of a handshake datagram; it fits any path that WebRTC uses (RFC 8831 section 5)."""
REPLAY_WINDOW_PACKETS = 4096
"""Number of packets that a retransmission may be behind the newest: over a second of a key-frame burst."""
RECORD_HEADER_BYTES = 13
HANDSHAKE_HEADER_BYTES = 12
MAX_HANDSHAKE_MESSAGE_BYTES = 32_768
"""Limit for a certificate chain: a WebRTC server's is one self-signed certificate of a few hundred bytes."""
MAX_HANDSHAKE_MESSAGES = 32
"""Limit for the messages of one handshake; a server sends eight."""
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
}


class DtlsState(Enum):
    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


class _Content(IntEnum):
    """Content types of a record (RFC 6347 section 4.1)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22


_SERVER_HANDSHAKES = frozenset({2, 3, 4, 11, 12, 13, 14, 22})
"""Handshake messages a server sends in clear text (RFC 5246 section 7.4, RFC 6347 section 4.3.2): hello,
hello verify, ticket, certificate, key exchange, certificate request, hello done, certificate status."""


_HELLOS = {2: (b"\xfe\xfd",), 3: (b"\xfe\xff", b"\xfe\xfd")}
"""The messages that come first, with the versions that they may begin with."""


class DtlsError(Exception):
    """The handshake failed; the text says why."""


@dataclass(frozen=True, slots=True)
class _Profile:
    name: bytes
    libsrtp: int
    key_bytes: int
    salt_bytes: int


PROFILES = (
    _Profile(b"SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    _Profile(b"SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
)
"""The cheaper one comes first: AES-GCM needs no separate HMAC (RFC 7714)."""


class DtlsSrtp:
    """One DTLS association.

    `send` takes each outgoing datagram. `received` takes incoming DTLS datagrams; it raises DtlsError
    when the handshake cannot succeed. Once connected, `rx` and `tx` are the SRTP sessions.

    Until there are keys, nothing proves who sent a record. So records that cannot be a server's part of the
    handshake are dropped (RFC 6347 section 4.1.2.7): OpenSSL would give up the association over them. Alerts
    are dropped too; `alert` is the last one, for an error's text.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _self_signed(self._key)
        self._ssl: SSL.Connection | None = None
        self._expected: Fingerprint | None = None
        self.state = DtlsState.NEW
        self.rx: Session | None = None
        self.tx: Session | None = None
        self.profile = ""
        self.alert = ""
        self._clear_records = 0
        """The number of clear-text records from the server so far."""
        self._has_finished = False
        """We have sent our encrypted part, so the server may change to its cipher too."""

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint("sha-256", _digest(self._certificate, "sha-256"))

    def start(self, expected: Fingerprint) -> None:
        """Sends the first flight. `expected` is the fingerprint in the peer's SDP."""
        if expected.algorithm.lower() not in HASHES:
            raise DtlsError(f"the server's certificate hash {expected.algorithm!r} is unknown")
        self._expected = expected
        self._ssl = SSL.Connection(self._context())
        self._ssl.set_ciphertext_mtu(MTU_BYTES)
        self._ssl.set_connect_state()
        self.state = DtlsState.CONNECTING
        self._advance()

    def received(self, datagram: bytes) -> list[bytes]:
        """Takes a datagram whose first byte is 20 to 63 (RFC 7983). Returns what the server's application
        sent in it: packets of SCTP."""
        if self._ssl is None:
            return []
        if self.state is DtlsState.CONNECTING:
            kept = [self._numbered(each) for each in records(datagram) if self._may_be_the_servers(each)]
            if kept:
                self._ssl.bio_write(b"".join(kept))
                self._advance()
        elif self.state is DtlsState.CONNECTED:
            whole = b"".join(records(datagram))
            if whole:
                self._ssl.bio_write(whole)
                return self._read()
        return []

    def send(self, packet: bytes) -> None:
        """Sends a packet of SCTP, once connected."""
        if self._ssl is not None and self.state is DtlsState.CONNECTED:
            self._ssl.send(packet)
            self._flush()

    def _may_be_the_servers(self, record: bytes) -> bool:
        """Whether a record may be the server's. OpenSSL itself drops an encrypted record that is not
        authentic. A well-forged hello still costs the connection, which is then tried again."""
        kind, body = record[0], record[RECORD_HEADER_BYTES:]
        if not _is_clear(record):
            return kind in (_Content.ALERT, _Content.HANDSHAKE)
        match kind:
            case _Content.ALERT:
                if len(body) == 2:
                    self.alert = f"alert {body[1]}"
                return False
            case _Content.CHANGE_CIPHER_SPEC:
                return self._has_finished and body == b"\x01"
            case _:
                return kind == _Content.HANDSHAKE and is_of_a_server(body)

    def _numbered(self, record: bytes) -> bytes:
        """Gives a clear-text record a number of our own: after a forged high number, all others would count
        as replays."""
        if not _is_clear(record):
            return record
        self._clear_records += 1
        return record[:5] + self._clear_records.to_bytes(6) + record[11:]

    def _read(self) -> list[bytes]:
        """Returns the data that has been decrypted. Anything else is a goodbye, or a retransmitted flight."""
        assert self._ssl is not None
        packets: list[bytes] = []
        try:
            while True:
                packets.append(self._ssl.recv(65536))
        except SSL.ZeroReturnError:
            self.state = DtlsState.CLOSED
        except SSL.Error:
            pass  # nothing more to read
        self._flush()
        return packets

    def timeout_s(self) -> float | None:
        """Seconds until the next retransmission is due; None without one."""
        if self._ssl is None or self.state is not DtlsState.CONNECTING:
            return None
        return self._ssl.DTLSv1_get_timeout()

    def retransmit(self) -> None:
        """Retransmits the last flight; call it after timeout_s."""
        if self._ssl is not None and self.state is DtlsState.CONNECTING:
            self._ssl.DTLSv1_handle_timeout()
            self._flush()

    def close(self) -> None:
        """Notifies the peer. Idempotent."""
        if self._ssl is not None and self.state in (DtlsState.CONNECTING, DtlsState.CONNECTED):
            try:
                self._ssl.shutdown()
            except SSL.Error:
                pass  # in mid-handshake there is nothing to shut down
            self._flush()
        self.state = DtlsState.CLOSED

    def _advance(self) -> None:
        assert self._ssl is not None
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as error:
            self._flush()
            self._fail(f"the DTLS handshake failed: {error}")
        self._flush()
        self._check_peer()
        self._make_sessions()
        self.state = DtlsState.CONNECTED

    def _flush(self) -> None:
        assert self._ssl is not None
        try:
            flight = self._ssl.bio_read(1 << 16)
        except SSL.WantReadError:
            return
        self._has_finished = self._has_finished or not all(map(_is_clear, records(flight)))
        for datagram in datagrams(flight, MTU_BYTES):
            self._send(datagram)

    def _check_peer(self) -> None:
        assert self._ssl is not None and self._expected is not None
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            self._fail("the server showed no certificate in the DTLS handshake")
        elif _digest(certificate, self._expected.algorithm.lower()) != self._expected.value.upper():
            self._fail("the server's DTLS certificate does not match the fingerprint it signalled")

    def _make_sessions(self) -> None:
        assert self._ssl is not None
        chosen = self._ssl.get_selected_srtp_profile()
        profile = next((each for each in PROFILES if each.name == chosen), None)
        if profile is None:
            self._fail("the server agreed to no SRTP profile")
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        ours = material[:key] + material[2 * key : 2 * key + salt]
        theirs = material[key : 2 * key] + material[2 * key + salt :]
        self.tx = _session(ours, profile, Policy.SSRC_ANY_OUTBOUND)
        self.rx = _session(theirs, profile, Policy.SSRC_ANY_INBOUND)
        self.profile = profile.name.decode()

    def _fail(self, why: str) -> NoReturn:
        self.state = DtlsState.FAILED
        raise DtlsError(why)

    def _context(self) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_METHOD)
        # 1.2 is what WebRTC requires (RFC 8827 section 6.5). 1.3 with post-quantum key shares would
        # make a ClientHello larger than a datagram.
        context.set_min_proto_version(DTLS1_2)
        context.set_max_proto_version(DTLS1_2)
        context.set_options(SSL.OP_NO_TICKET)
        # The fingerprint proves the peer, not a chain.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(self._certificate)
        context.use_privatekey(self._key)
        context.set_cipher_list(
            b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256"
        )
        context.set_tlsext_use_srtp(b":".join(profile.name for profile in PROFILES))
        return context


def datagrams(flight: bytes, limit: int) -> list[bytes]:
    """DTLS records (RFC 6347 section 4.1) packed into datagrams of at most `limit` bytes.

    A record is never split; one that is larger than `limit` goes alone.
    """
    out: list[bytes] = []
    start = position = 0
    while position + RECORD_HEADER_BYTES <= len(flight):
        length = RECORD_HEADER_BYTES + int.from_bytes(flight[position + 11 : position + 13])
        if position > start and position + length - start > limit:
            out.append(flight[start:position])
            start = position
        position += length
    if start < len(flight):
        out.append(flight[start:])
    return out


def records(datagram: bytes) -> list[bytes]:
    """The DTLS 1.0 and 1.2 records that are complete (RFC 6347 section 4.1). OpenSSL reads a datagram as a
    stream: half a record would swallow what follows it."""
    out: list[bytes] = []
    position = 0
    while position + RECORD_HEADER_BYTES < len(datagram):
        end = position + RECORD_HEADER_BYTES + int.from_bytes(datagram[position + 11 : position + 13])
        if end > len(datagram) or datagram[position + 1 : position + 3] not in (b"\xfe\xff", b"\xfe\xfd"):
            break
        out.append(datagram[position:end])
        position = end
    return out


def _is_clear(record: bytes) -> bool:
    """Whether a record is in clear text, by its epoch."""
    return record[3:5] == b"\0\0"


def is_of_a_server(body: bytes) -> bool:
    """Whether a handshake record in clear text (RFC 6347 section 4.2.2) holds a server's messages, or parts
    of them, judged by their headers."""
    position = 0
    while position < len(body):
        if position + HANDSHAKE_HEADER_BYTES > len(body):
            return False
        total, sequence, offset, length = (
            int.from_bytes(body[position + start : position + end])
            for start, end in ((1, 4), (4, 6), (6, 9), (9, 12))
        )
        kind = body[position]
        if kind not in _SERVER_HANDSHAKES or sequence >= MAX_HANDSHAKE_MESSAGES:
            return False
        if kind in _HELLOS:
            start = body[position + HANDSHAKE_HEADER_BYTES : position + HANDSHAKE_HEADER_BYTES + 2]
            if sequence > 1 or offset or start not in _HELLOS[kind]:
                return False
        elif not sequence:
            return False
        if total > MAX_HANDSHAKE_MESSAGE_BYTES or offset + length > total:
            return False
        position += HANDSHAKE_HEADER_BYTES + length
    return position == len(body) > 0


def _session(key: bytes, profile: _Profile, ssrc_type: int) -> Session:
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=profile.libsrtp)
    policy.allow_repeat_tx = True
    policy.window_size = REPLAY_WINDOW_PACKETS
    return Session(policy)


def _digest(certificate: x509.Certificate, algorithm: str) -> str:
    return certificate.fingerprint(HASHES[algorithm]).hex(":").upper()


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(8))])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
