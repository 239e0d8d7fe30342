"""A participant that makes its RTP itself, for what the SDK's WebRTC does not publish: H265 and G.711.

Signalling and the media path are the recorder's own client turned round: it offers and sends. Pictures are
encoded here and sent exactly once, with the counter of testkit.pattern; `sent` has the payloads.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from livekit import api
from livekit.protocol import models
from livekit.protocol.rtc import (
    AddTrackRequest,
    SessionDescription,
    SignalTarget,
    SimulcastCodec,
    TrickleRequest,
)

from openegress.room import sdp
from openegress.room.signalling import Signalling
from openegress.room.transport import Transport
from testkit.live_encoder import LiveEncoder
from testkit.livekit_server import LivekitServer
from testkit.participants import SentPicture
from testkit.pattern import COLOURS, Matrix, Picture, PictureSpec, Rgb, Sound
from testkit.rtp_sender import RtpSender, feedback, payloads

NS = 1_000_000_000
CONNECT_TIMEOUT_S = 10.0
PACKET_MS = 20
REPORT_S = 0.5
PING_S = 5.0

RawCodec = Literal["h265", "h264", "pcmu", "pcma"]
Name = Literal["camera", "microphone"]


@dataclass(frozen=True, slots=True)
class _Format:
    payload_type: int
    clock_rate: int
    lines: tuple[str, ...]


_FEEDBACK = ("nack", "nack pli")
_FORMATS: dict[RawCodec, _Format] = {
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
    "pcmu": _Format(0, 8_000, ("rtpmap:0 PCMU/8000",)),
    "pcma": _Format(8, 8_000, ("rtpmap:8 PCMA/8000",)),
}
_ENCODER: dict[RawCodec, str] = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}


@dataclass(slots=True)
class RawTrack:
    """What is published by a name."""

    codec: RawCodec
    fallback: RawCodec | None = None
    """Announced together with `codec`: what the server may be given instead in mid-track."""
    aggregate: bool = True
    """Parameter sets of H265 in one packet, as browsers send them; False: a packet each."""
    colour: Rgb = COLOURS[0]
    size: tuple[int, int] = (320, 180)
    fps: int = 30
    kbps: int = 400
    tone_hz: float = 440.0


@dataclass(slots=True)
class _Section:
    """A media section of the offer: one SSRC, once sent and then inactive for good."""

    mid: str
    cid: str
    codec: RawCodec
    sender: RtpSender
    active: bool = True
    wants_key: bool = True

    def lines(self) -> Iterator[str]:
        is_audio = self.codec in _ENCODER
        # Every codec of its kind, like a browser: the server remembers those of the first section only.
        others = [codec for codec in _FORMATS if (codec in _ENCODER) is is_audio and codec != self.codec]
        formats = [_FORMATS[codec] for codec in (self.codec, *others)]
        numbers = " ".join(str(each.payload_type) for each in formats)
        yield f"m={'audio' if is_audio else 'video'} 9 UDP/TLS/RTP/SAVPF {numbers}"
        yield "c=IN IP4 0.0.0.0"
        yield f"a=mid:{self.mid}"
        yield "a=sendonly" if self.active else "a=inactive"
        yield from ("a=rtcp-mux", "a=rtcp-rsize", "a=setup:active")
        yield from (f"a={line}" for each in formats for line in each.lines)
        if self.active:
            yield f"a=msid:{self.cid} {self.cid}"
            yield f"a=ssrc:{self.sender.ssrc} cname:raw"
            yield f"a=ssrc:{self.sender.ssrc} msid:{self.cid} {self.cid}"


@dataclass(slots=True)
class _Published:
    sid: str
    spec: RawTrack
    section: _Section
    fallback_cid: str
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class _Sending(Transport):
    """The recorder's media path, from the offering side: it controls ICE and sends RTP."""

    def offer_ice(self) -> None:
        self._ice.ice_controlling = True

    def send_rtp(self, packet: bytes) -> None:
        if self._dtls.tx is not None and not self._closed:
            self._ice.send_now(self._dtls.tx.protect(packet))


class RawPublisher:
    """Joins and publishes on entry, leaves on exit; everything by name of track."""

    def __init__(
        self,
        server: LivekitServer,
        room: str,
        identity: str,
        camera: RawTrack | None = None,
        microphone: RawTrack | None = None,
    ) -> None:
        self._server = server
        self._room = room
        self._identity = identity
        self._specs: dict[Name, RawTrack] = {}
        if camera is not None:
            self._specs["camera"] = camera
        if microphone is not None:
            self._specs["microphone"] = microphone
        self._signalling = Signalling(server.ws_url)
        self._transport: _Sending | None = None
        self._sections: list[_Section] = []
        self._tracks: dict[Name, _Published] = {}
        self._confirmed: dict[str, asyncio.Future[str]] = {}
        self._answered: asyncio.Future[sdp.Offer] | None = None
        self._early: list[str] = []
        self._connected = False
        self._tasks: list[asyncio.Task[None]] = []
        self._began_ns = time.time_ns() // NS * NS
        self.sent: dict[Name, list[SentPicture]] = {"camera": []}

    async def __aenter__(self) -> Self:
        try:
            await self.join()
        except BaseException:
            await self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    def sid(self, name: Name) -> str:
        return self._tracks[name].sid

    async def join(self) -> None:
        # Who may not subscribe has one connection only, the one it publishes over.
        grants = api.VideoGrants(room_join=True, room=self._room, can_publish=True, can_subscribe=False)
        await self._signalling.open(self._server.token(self._room, self._identity, grants=grants))
        self._transport = _Sending(
            on_rtp=lambda _: None, on_rtcp=self._rtcp, on_lost=lambda _: None, loopback=True
        )
        self._transport.offer_ice()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]
        for name in list(self._specs):
            await self.publish(name)

    async def leave(self) -> None:
        """Idempotent. Raises what ended one of its tasks before the time."""
        tasks = [*self._tasks, *(each.task for each in self._tracks.values() if each.task is not None)]
        self._tasks = []
        self._tracks = {}
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

    async def publish(self, name: Name, spec: RawTrack | None = None) -> str:
        """Publishes a track, with its former spec when none is given. Returns its SID."""
        spec = self._specs[name] = spec or self._specs[name]
        section = self._add_section(spec.codec)
        cids = {spec.codec: section.cid}
        if spec.fallback is not None:
            cids[spec.fallback] = f"{section.cid}-{spec.fallback}"
        video = spec.codec not in _ENCODER
        width, height = spec.size if video else (0, 0)
        confirmed = self._confirmed[section.cid] = asyncio.get_running_loop().create_future()
        await self._signalling.send(
            add_track=AddTrackRequest(
                cid=section.cid,
                name=name,
                type=models.TrackType.VIDEO if video else models.TrackType.AUDIO,
                source=models.TrackSource.CAMERA if video else models.TrackSource.MICROPHONE,
                width=width,
                height=height,
                layers=[models.VideoLayer(quality=models.VideoQuality.HIGH, width=width, height=height)]
                if video
                else [],
                simulcast_codecs=[SimulcastCodec(codec=codec, cid=cid) for codec, cid in cids.items()],
                backup_codec_policy=models.BackupCodecPolicy.REGRESSION,
                disable_red=True,
            )
        )
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            sid: str = await confirmed
            await self._negotiate()
        track = self._tracks[name] = _Published(sid, spec, section, cids.get(spec.fallback or spec.codec, ""))
        track.task = asyncio.create_task(self._show(name, track) if video else self._speak(track))
        return sid

    async def republish(self, name: Name, spec: RawTrack) -> str:
        """Unpublishes and publishes anew: a new SID, and another codec when `spec` says so."""
        await self.unpublish(name)
        return await self.publish(name, spec)

    async def unpublish(self, name: Name) -> None:
        track = self._tracks.pop(name)
        if track.task is not None:
            track.task.cancel()
            await asyncio.gather(track.task, return_exceptions=True)
        track.section.active = False
        await self._negotiate()

    async def fall_back(self, name: Name) -> None:
        """In mid-track: the next picture is of the fallback codec, and the server switches all who watch."""
        track = self._tracks[name]
        assert track.spec.fallback is not None
        section = self._add_section(track.spec.fallback, track.fallback_cid)
        await self._negotiate()
        track.section = section

    # --- signalling

    def _add_section(self, codec: RawCodec, cid: str = "") -> _Section:
        form, mid = _FORMATS[codec], str(len(self._sections))
        section = _Section(
            mid, cid or f"{self._identity}-{mid}", codec, RtpSender(form.payload_type, form.clock_rate)
        )
        self._sections.append(section)
        return section

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
                    self._answered.set_result(sdp.parse(message.answer.sdp))
                case "track_published":
                    self._confirmed.pop(message.track_published.cid).set_result(
                        message.track_published.track.sid
                    )
                case "trickle" if message.trickle.target == SignalTarget.PUBLISHER:
                    line = str(json.loads(message.trickle.candidateInit).get("candidate", ""))
                    if line and self._connected and self._transport is not None:
                        await self._transport.add_candidate(line)
                    elif line:
                        self._early.append(line)

    async def _beat(self) -> None:
        """Reports and pings."""
        pinged_at = time.monotonic()
        while True:
            await asyncio.sleep(REPORT_S)
            if self._transport is not None:
                for track in self._tracks.values():
                    self._transport.send_rtcp(track.section.sender.report())
            if time.monotonic() - pinged_at > PING_S:
                pinged_at = time.monotonic()
                await self._signalling.ping()

    # --- media

    def _rtcp(self, data: bytes) -> None:
        for section in self._sections:
            wants = feedback(data, section.sender.ssrc)
            section.wants_key |= wants.key_frame
            for packet in section.sender.repeated(wants.sequences):
                assert self._transport is not None
                self._transport.send_rtp(packet)

    def _send(self, section: _Section, parts: list[bytes], at_ns: int) -> None:
        assert self._transport is not None
        for packet in section.sender.packets(parts, at_ns):
            self._transport.send_rtp(packet)

    async def _show(self, name: Name, track: _Published) -> None:
        spec = track.spec
        picture = Picture(PictureSpec(*spec.size, spec.fps, spec.colour, matrix=Matrix.BT601))
        sent = self.sent[name]
        codec, encoder = "", None
        counter = (time.time_ns() - self._began_ns) * spec.fps // NS + 1
        while True:
            at_ns = self._began_ns + counter * NS // spec.fps
            await _until(at_ns)
            section = track.section
            if encoder is None or section.codec != codec:
                codec = section.codec
                encoder, first = LiveEncoder(codec, *spec.size, spec.fps, spec.kbps), counter
            wanted, section.wants_key = section.wants_key, False
            unit = encoder.encode(picture.draw(counter), counter - first, force_key=wanted)
            sent.append(SentPicture(counter, at_ns, unit.data))
            self._send(section, payloads(codec, unit.data, aggregate=spec.aggregate), at_ns)
            counter += 1

    async def _speak(self, track: _Published) -> None:
        section, sound = track.section, Sound(track.spec.tone_hz, 0.3)
        context = av.CodecContext.create(_ENCODER[section.codec], "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate, context.layout, context.format = 8_000, "mono", "s16"
        index = (time.time_ns() - self._began_ns) * 1000 // PACKET_MS // NS + 1
        while True:
            at_ns = self._began_ns + index * PACKET_MS * NS // 1000
            await _until(at_ns)
            whole = np.frombuffer(sound.block(2 * index) + sound.block(2 * index + 1), "<i2")
            # All that sounds is far below 4 kHz: every sixth sample is the same at 8 kHz.
            frame = av.AudioFrame.from_ndarray(whole[np.newaxis, ::6].copy(), "s16", "mono")
            frame.sample_rate, frame.pts = 8_000, None
            for packet in context.encode(frame):
                self._send(section, [bytes(packet)], at_ns)
            index += 1


async def _until(at_ns: int) -> None:
    await asyncio.sleep(max(0, at_ns - time.time_ns()) / NS)
