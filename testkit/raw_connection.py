"""The one connection of a participant that makes its RTP itself: signalling, offers, sections, RTCP.

The recorder's own client turned round: it offers and sends.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pylibsrtp
from livekit import api
from livekit.protocol.rtc import AddTrackRequest, SessionDescription, SignalTarget, TrickleRequest

from openegress.room.signalling import sdp
from openegress.room.signalling.websocket import Signalling
from openegress.room.transport.media import Transport
from testkit.rtp_sender import AUDIO_LEVEL, RtpSender, feedback

CONNECT_TIMEOUT_S = 10.0
REPORT_S = 0.5
PING_S = 5.0

RawCodec = Literal["h265", "h264", "vp8", "opus", "pcmu", "pcma"]


@dataclass(frozen=True, slots=True)
class _Format:
    payload_type: int
    clock_rate: int
    lines: tuple[str, ...]


_FEEDBACK = ("nack", "nack pli")
_VIDEO: dict[RawCodec, _Format] = {
    "h265": _Format(116, 90_000, ("rtpmap:116 H265/90000", *(f"rtcp-fb:116 {each}" for each in _FEEDBACK))),
    "h264": _Format(
        125,
        90_000,
        (
            "rtpmap:125 H264/90000",
            "fmtp:125 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            *(f"rtcp-fb:125 {each}" for each in _FEEDBACK),
        ),
    ),
    "vp8": _Format(96, 90_000, ("rtpmap:96 VP8/90000", *(f"rtcp-fb:96 {each}" for each in _FEEDBACK))),
}
_AUDIO: dict[RawCodec, _Format] = {
    "opus": _Format(111, 48_000, ("rtpmap:111 opus/48000/2", "fmtp:111 minptime=10;useinbandfec=1")),
    "pcmu": _Format(0, 8_000, ("rtpmap:0 PCMU/8000",)),
    "pcma": _Format(8, 8_000, ("rtpmap:8 PCMA/8000",)),
}


def is_video(codec: RawCodec) -> bool:
    return codec in _VIDEO


def send_only(room: str) -> api.VideoGrants:
    """A grant for a participant that may not subscribe, and so has only the connection over which it
    publishes."""
    return api.VideoGrants(room_join=True, room=room, can_publish=True, can_subscribe=False)


@dataclass(slots=True)
class Section:
    """A media section of the offer: one SSRC, used once and then inactive for good."""

    mid: str
    cid: str
    codec: RawCodec
    sender: RtpSender
    active: bool = True
    reported: bool = False
    """Whether sender reports go out for it: from its first packet on."""
    wants_key: bool = True

    def lines(self) -> Iterator[str]:
        kind, formats = ("video", _VIDEO) if is_video(self.codec) else ("audio", _AUDIO)
        # Every codec of its kind, like a browser: the server remembers only those of the first section.
        ordered = [formats[self.codec], *(each for codec, each in formats.items() if codec != self.codec)]
        numbers = " ".join(str(each.payload_type) for each in ordered)
        yield f"m={kind} 9 UDP/TLS/RTP/SAVPF {numbers}"
        yield "c=IN IP4 0.0.0.0"
        yield f"a=mid:{self.mid}"
        yield "a=sendonly" if self.active else "a=inactive"
        yield from ("a=rtcp-mux", "a=rtcp-rsize", "a=setup:active")
        if kind == "audio":
            yield f"a=extmap:{AUDIO_LEVEL} urn:ietf:params:rtp-hdrext:ssrc-audio-level"
        yield from (f"a={line}" for each in ordered for line in each.lines)
        if self.active:
            yield f"a=msid:{self.cid} {self.cid}"
            yield f"a=ssrc:{self.sender.ssrc} cname:raw"
            yield f"a=ssrc:{self.sender.ssrc} msid:{self.cid} {self.cid}"


class _Sending(Transport):
    """The recorder's media path, from the offering side: it controls ICE and sends RTP."""

    def offer_ice(self) -> None:
        self._ice.ice_controlling = True

    def send_rtp(self, packet: bytes) -> None:
        if self._dtls.tx is not None and not self._closed:
            with contextlib.suppress(pylibsrtp.Error):  # one that is requested again after too long
                self._ice.send_now(self._dtls.tx.protect(packet))


class RawConnection:
    """`open`; for each track `add_section` and `announce`; `negotiate`; then `send`."""

    def __init__(self, url: str, identity: str) -> None:
        self._identity = identity
        self._signalling = Signalling(url)
        self._transport: _Sending | None = None
        self._sections: list[Section] = []
        self._confirmed: dict[str, asyncio.Future[str]] = {}
        self._answered: asyncio.Future[sdp.Offer] | None = None
        self._early: list[str] = []
        self._connected = False
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, token: str) -> None:
        """`token` has the grants of `send_only`."""
        await self._signalling.open(token)
        self._transport = _Sending(
            on_rtp=lambda *_: None, on_rtcp=self._rtcp, on_lost=lambda _: None, loopback=True
        )
        self._transport.offer_ice()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]

    async def close(self) -> None:
        """Leaves the room. Idempotent. Raises the error that ended one of its tasks early."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is not None:
            await self._signalling.leave()
            await self._transport.close()
        await self._signalling.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def add_section(self, codec: RawCodec, cid: str = "") -> Section:
        """In the offers from now on."""
        form, mid = (_VIDEO if is_video(codec) else _AUDIO)[codec], str(len(self._sections))
        section = Section(
            mid, cid or f"{self._identity}-{mid}", codec, RtpSender(form.payload_type, form.clock_rate)
        )
        self._sections.append(section)
        return section

    async def announce(self, request: AddTrackRequest) -> str:
        """The SID of the track whose `cid` belongs to a section."""
        confirmed = self._confirmed[request.cid] = asyncio.get_running_loop().create_future()
        await self._signalling.send(add_track=request)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            sid: str = await confirmed
        return sid

    async def negotiate(self) -> None:
        """Offers the current sections; the first time it also brings up the media path."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._negotiate()

    def send(self, section: Section, payloads: list[bytes], at_ns: int) -> int:
        """One frame, captured at `at_ns` of unix time. Returns its number of packets."""
        assert self._transport is not None
        section.reported = True
        packets = section.sender.packets(payloads, at_ns)
        self.send_rtp(*packets)
        return len(packets)

    def send_rtp(self, *packets: bytes) -> None:
        """Sends packets unchanged."""
        assert self._transport is not None
        for packet in packets:
            self._transport.send_rtp(packet)

    async def signal(self, **message: object) -> None:
        await self._signalling.send(**message)

    # --- signalling

    def _offer(self, transport: Transport) -> str:
        lines = ["v=0", f"o=- 1 {len(self._sections) + 1} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        lines.append(" ".join(["a=group:BUNDLE", *(each.mid for each in self._sections)]))
        lines += [f"a=ice-ufrag:{transport.username}", f"a=ice-pwd:{transport.password}"]
        lines.append(f"a=fingerprint:{transport.fingerprint.algorithm} {transport.fingerprint.value}")
        for section in self._sections:
            lines += section.lines()
        return "\r\n".join(lines) + "\r\n"

    async def _negotiate(self) -> None:
        transport = self._transport
        assert transport is not None
        own = [] if self._connected else await transport.gather()
        self._answered = asyncio.get_running_loop().create_future()
        await self._signalling.send(offer=SessionDescription(type="offer", sdp=self._offer(transport)))
        for line in own:
            init = json.dumps({"candidate": line, "sdpMLineIndex": 0, "sdpMid": "0"})
            await self._signalling.send(
                trickle=TrickleRequest(candidateInit=init, target=SignalTarget.PUBLISHER)
            )
        answer = await self._answered
        if self._connected:
            return
        self._connected = True
        for line in [*answer.candidates, *self._early]:
            await transport.add_candidate(line)
        await transport.connect(
            answer.username,
            answer.password,
            answer.fingerprint,
            ice_lite=answer.ice_lite,
            timeout_s=CONNECT_TIMEOUT_S,
            on_candidate=lambda _: None,
        )

    async def _read(self) -> None:
        async for message in self._signalling.messages():
            match message.WhichOneof("message"):
                case "answer":
                    assert self._answered is not None
                    if not self._answered.done():  # nobody may wait for it any more
                        self._answered.set_result(sdp.parse(message.answer.sdp))
                case "track_published":
                    confirmed = self._confirmed.pop(message.track_published.cid)
                    if not confirmed.done():  # nobody may wait for it any more
                        confirmed.set_result(message.track_published.track.sid)
                case "trickle" if message.trickle.target == SignalTarget.PUBLISHER:
                    line = str(json.loads(message.trickle.candidateInit).get("candidate", ""))
                    if line and self._connected and self._transport is not None:
                        await self._transport.add_candidate(line)
                    elif line:
                        self._early.append(line)

    # --- RTCP

    async def _beat(self) -> None:
        """Reports and pings."""
        pinged_at = time.monotonic()
        while True:
            await asyncio.sleep(REPORT_S)
            if self._transport is not None:
                for section in self._sections:
                    if section.active and section.reported:
                        self._transport.send_rtcp(section.sender.report())
            if time.monotonic() - pinged_at > PING_S:
                pinged_at = time.monotonic()
                await self._signalling.ping()

    def _rtcp(self, data: bytes, _: int) -> None:
        for section in self._sections:
            wants = feedback(data, section.sender.ssrc)
            section.wants_key |= wants.key_frame
            for packet in section.sender.repeated(wants.sequences):
                assert self._transport is not None
                self._transport.send_rtp(packet)
