"""The media connection of one join: ICE, then DTLS, then SRTP in and RTCP out.

Packets go from the socket to `on_rtp` and `on_rtcp` in one call, without a task, queue or copy in between.
UDP is tried first; TCP and TURN join in if it is not up after FALLBACK_AFTER_S.
"""

import asyncio
import logging
from collections.abc import Callable

import pylibsrtp
from aioice.candidate import Candidate

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.tasks import cancelled
from openegress.room.transport.dtls import DtlsError, DtlsSrtp, DtlsState
from openegress.room.transport.fingerprint import Fingerprint
from openegress.room.transport.ice import ACCEPTABLE_BUFFER_BYTES, IceConnection, TurnServer

_log = logging.getLogger(__name__)

FALLBACK_AFTER_S = 1.5
"""UDP, if it is open, answers within a few round trips."""


class Transport:
    """For one use: a lost path is replaced by a new Transport. `on_rtp` gets each packet with its time of
    arrival in monotonic ns; so do `on_rtcp`, and `on_data` for SCTP. None: no data channels. `on_lost` is
    called at most once, with the reason, after `connect` returned."""

    def __init__(
        self,
        *,
        on_rtp: Callable[[bytes, int], None],
        on_rtcp: Callable[[bytes, int], None],
        on_lost: Callable[[str], None],
        loopback: bool = False,
        turn: TurnServer | None = None,
        relay_only: bool = False,
        udp: bool = True,
        on_data: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._on_lost = on_lost
        self._on_data = on_data
        self._relay_only = relay_only
        self._ice = IceConnection(
            on_data=self.received,
            on_lost=self._lost,
            loopback=loopback,
            turn=turn,
            udp=udp and not relay_only,
        )
        self._dtls = DtlsSrtp(self._send_dtls)
        self._dtls_done: asyncio.Future[None] | None = None
        self._tcp: list[Candidate] = []
        self._use_tcp = not udp and not relay_only
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._packets = 0
        """Packets that SRTP accepted."""
        self.bad_packets = 0
        """Packets that SRTP rejected: forged, replayed, damaged or too large."""

    # --- what the answer needs

    @property
    def username(self) -> str:
        return self._ice.local_username

    @property
    def password(self) -> str:
        return self._ice.local_password

    @property
    def fingerprint(self) -> Fingerprint:
        return self._dtls.fingerprint

    @property
    def datagrams(self) -> int:
        """Authenticated datagrams received so far: packets, and the checks of the path every few seconds.
        Anything that can be forged does not show that the server is alive."""
        return self._ice.checks + self._packets

    @property
    def path(self) -> str:
        return self._ice.path()

    def rehearse(self) -> None:
        """Does in advance what makes the first handshake of a process slow. The object cannot be used after
        that."""
        self._dtls.start(self._dtls.fingerprint)

    async def gather(self) -> list[str]:
        """Opens the sockets. Returns our candidates as `candidate:...` lines."""
        await self._ice.gather_candidates()
        granted = self._ice.buffer_bytes
        if granted and granted < ACCEPTABLE_BUFFER_BYTES:
            _log.warning(
                "the host grants a UDP receive buffer of %d bytes only; bursts of key frames may be lost: "
                "set net.core.rmem_max to 4194304",
                granted,
            )
        return ["candidate:" + each.to_sdp() for each in self._ice.local_candidates]

    async def add_candidate(self, line: str) -> None:
        """One `candidate:...` line of the server. TCP candidates are kept in case UDP fails."""
        try:
            candidate = Candidate.from_sdp(line.removeprefix("candidate:"))
        except ValueError:
            _log.warning("the server sent a candidate that cannot be read: %r", line[:200])
            return
        if candidate.transport.lower() == "udp":
            await self._ice.add_remote_candidate(candidate)
        elif candidate.tcptype == "passive":
            self._tcp.append(candidate)
            if self._use_tcp:
                await self._try_tcp(candidate)

    async def connect(
        self,
        username: str,
        password: str,
        fingerprint: Fingerprint,
        *,
        ice_lite: bool,
        timeout_s: float,
        on_candidate: Callable[[str], None],
    ) -> None:
        """Brings the path up. `on_candidate` gets candidates that are found on the way, to be signalled.

        Raises EgressError (phase ICE) with what was tried if it is not up after `timeout_s`.
        """
        self._ice.remote_username, self._ice.remote_password = username, password
        if ice_lite:
            self._ice.remote_is_lite = True
            self._ice.ice_controlling = True
        self._dtls_done = asyncio.get_running_loop().create_future()
        fallback = asyncio.create_task(self._fall_back(on_candidate))
        try:
            async with asyncio.timeout(timeout_s):
                await self._ice.connect()
                self._dtls.start(fingerprint)
                self._arm_dtls()
                await self._dtls_done
        except TimeoutError:
            step = "the DTLS handshake" if self._ice.connected else "ICE"
            if self._dtls.alert:
                step += f"; the server may have refused it: {self._dtls.alert}"
            raise _ice_error(
                f"no media path to the server after {timeout_s:g} s ({step}); tried: {self._ice.tried()}. "
                "Open the server's UDP port range or its TCP port (rtc.tcp_port) to this host"
            ) from None
        except ConnectionError as error:
            raise _ice_error(f"no media path to the server: {error}; tried: {self._ice.tried()}") from error
        except DtlsError as error:
            raise _ice_error(f"{error}; path: {self.path}") from error
        finally:
            await cancelled(fallback)
        _log.info("media path up: %s, %s", self.path, self._dtls.profile)

    async def _fall_back(self, on_candidate: Callable[[str], None]) -> None:
        if not self._relay_only:
            await asyncio.sleep(FALLBACK_AFTER_S)
        self._use_tcp = not self._relay_only
        if self._use_tcp:
            await asyncio.gather(*(self._try_tcp(each) for each in self._tcp))
        for candidate in await self._ice.add_relay():
            on_candidate("candidate:" + candidate.to_sdp())

    async def _try_tcp(self, candidate: Candidate) -> None:
        try:
            await self._ice.add_tcp(candidate)
        except (OSError, TimeoutError) as error:
            _log.info("no TCP connection to %s:%d: %s", candidate.host, candidate.port, error)

    # --- packets

    def received(self, data: bytes, arrival_ns: int) -> None:
        """Takes every datagram that is not STUN, and sorts it by its first byte (RFC 7983)."""
        first = data[0]
        if 127 < first < 192:
            session = self._dtls.rx
            if session is None:
                return
            try:
                is_rtcp = 191 < data[1] < 224
                packet = session.unprotect_rtcp(data) if is_rtcp else session.unprotect(data)
            except (pylibsrtp.Error, ValueError, IndexError):
                self.bad_packets += 1
                return
            self._packets += 1
            if is_rtcp:
                self._on_rtcp(packet, arrival_ns)
            else:
                self._on_rtp(packet, arrival_ns)
        elif 19 < first < 64:
            self._received_dtls(data, arrival_ns)

    def renew(self) -> None:
        """See IceConnection."""
        self._ice.renew()

    def is_address_gone(self) -> bool:
        """See IceConnection."""
        return self._ice.is_address_gone()

    def batch_reads(self) -> None:
        """Nobody waits for packets any more: they may be handed out a fifth of a second late, many at a
        time."""
        self._ice.batch_reads()

    def drain(self) -> None:
        """Hands out what has arrived so far."""
        self._ice.drain()

    def send_rtcp(self, packet: bytes) -> None:
        """Dropped silently while no path is up: reports and requests are repeated anyway."""
        if self._dtls.tx is not None and not self._closed:
            self._ice.send_now(self._dtls.tx.protect_rtcp(packet))

    @property
    def takes_data(self) -> bool:
        return self._on_data is not None

    def send_data(self, packet: bytes) -> None:
        """Sends a packet of SCTP. Dropped silently while no path is up: SCTP sends it again."""
        if not self._closed:
            self._dtls.send(packet)

    def _received_dtls(self, data: bytes, arrival_ns: int) -> None:
        try:
            packets = self._dtls.received(data)
        except DtlsError as error:
            if self._dtls_done is not None and not self._dtls_done.done():
                self._dtls_done.set_exception(error)
            return
        if self._on_data is not None and packets:
            # SCTP sends no faster than it is answered, and what need not arrive is dropped meanwhile.
            self._ice.hasten()
            for packet in packets:
                self._on_data(packet, arrival_ns)
        match self._dtls.state:
            case DtlsState.CONNECTED:
                if self._dtls_done is not None and not self._dtls_done.done():
                    self._dtls_done.set_result(None)
            case DtlsState.CLOSED:
                self._lost("the server closed the media connection")

    def _send_dtls(self, data: bytes) -> None:
        self._ice.send_now(data)

    def _arm_dtls(self) -> None:
        delay = self._dtls.timeout_s()
        if delay is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(max(delay, 0.05), self._dtls_due)

    def _dtls_due(self) -> None:
        self._dtls.retransmit()
        self._arm_dtls()

    def _lost(self, reason: str) -> None:
        if not self._closed and self._dtls.state in (DtlsState.CONNECTED, DtlsState.CLOSED):
            self._closed = True
            self._on_lost(reason)

    async def close(self) -> None:
        """Nothing is delivered after this returns. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._dtls.close()
        self._dtls.rx = None
        await self._ice.close()


def _ice_error(message: str) -> EgressError:
    return EgressError(Code.UNAVAILABLE, message, fault=Fault.SERVICE, phase=Phase.ICE)
