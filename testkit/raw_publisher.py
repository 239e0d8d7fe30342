"""A participant that makes its RTP itself, for what the SDK's WebRTC does not publish: H265 and G.711.

Pictures are encoded here and sent exactly once, with the counter of testkit.pattern; `sent` has the payloads.
"""

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from livekit.protocol import models
from livekit.protocol.rtc import AddTrackRequest, SimulcastCodec

from openegress.core.units import S
from testkit.live_encoder import LiveEncoder, ReorderingEncoder
from testkit.livekit_server import LivekitServer
from testkit.participants import SentPicture
from testkit.pattern import COLOURS, Matrix, Picture, PictureSpec, Rgb, Sound
from testkit.raw_connection import RawCodec, RawConnection, Section, is_video, send_only
from testkit.rtp_sender import payloads
from testkit.sealed_frames import derived, sealed_h265

__all__ = ["RawCodec", "RawPublisher", "RawTrack"]

PACKET_MS = 20

Name = Literal["camera", "microphone"]

_ENCODER: dict[RawCodec, str] = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}


@dataclass(slots=True)
class RawTrack:
    """A track that is published under a name."""

    codec: RawCodec
    fallback: RawCodec | None = None
    """Announced together with `codec`: the codec to which the track may change while it is published."""
    aggregate: bool = True
    """Parameter sets of H265 in one packet, as browsers send them; False: a packet each."""
    colour: Rgb = COLOURS[0]
    size: tuple[int, int] = (320, 180)
    fps: int = 30
    kbps: int = 400
    tone_hz: float = 440.0
    reports_off_s: float = 0.0
    """The offset of the wall clock in its sender reports."""
    b_frames: int = 0
    """B-frames of H264 between two other frames."""
    secret: bytes = b""
    """For H265 only: pictures are encrypted end to end with a key of this passphrase, whose index is 1."""


@dataclass(slots=True)
class _Published:
    sid: str
    spec: RawTrack
    section: Section
    fallback_cid: str
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class RawPublisher:
    """Joins and publishes on entry, leaves on exit; tracks are addressed by name."""

    def __init__(
        self,
        server: LivekitServer,
        room: str,
        identity: str,
        camera: RawTrack | None = None,
        microphone: RawTrack | None = None,
    ) -> None:
        self._token = server.token(room, identity, grants=send_only(room))
        self._specs: dict[Name, RawTrack] = {}
        if camera is not None:
            self._specs["camera"] = camera
        if microphone is not None:
            self._specs["microphone"] = microphone
        self._connection = RawConnection(server.ws_url, identity)
        self._tracks: dict[Name, _Published] = {}
        self._began_ns = time.time_ns() // S * S
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
        await self._connection.open(self._token)
        for name in list(self._specs):
            await self.publish(name)

    async def leave(self) -> None:
        """Idempotent. Raises the error that ended one of its tasks early."""
        tasks = [each.task for each in self._tracks.values() if each.task is not None]
        self._tracks = {}
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await self._connection.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def publish(self, name: Name, spec: RawTrack | None = None) -> str:
        """Publishes a track, with its previous spec if none is given. Returns its SID."""
        spec = self._specs[name] = spec or self._specs[name]
        section = self._connection.add_section(spec.codec)
        section.sender.reports_off_s = spec.reports_off_s
        cids = {spec.codec: section.cid}
        if spec.fallback is not None:
            cids[spec.fallback] = f"{section.cid}-{spec.fallback}"
        video = is_video(spec.codec)
        width, height = spec.size if video else (0, 0)
        sid = await self._connection.announce(
            AddTrackRequest(
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
                encryption=models.Encryption.Type.GCM if spec.secret else models.Encryption.Type.NONE,
            )
        )
        await self._connection.negotiate()
        track = self._tracks[name] = _Published(sid, spec, section, cids.get(spec.fallback or spec.codec, ""))
        show = self._reorder if spec.b_frames else self._show
        track.task = asyncio.create_task(show(name, track) if video else self._speak(track))
        return sid

    async def republish(self, name: Name, spec: RawTrack) -> str:
        """Unpublishes and publishes again: a new SID, and another codec if `spec` says so."""
        await self.unpublish(name)
        return await self.publish(name, spec)

    async def unpublish(self, name: Name) -> None:
        track = self._tracks.pop(name)
        if track.task is not None:
            track.task.cancel()
            await asyncio.gather(track.task, return_exceptions=True)
        track.section.active = False
        await self._connection.negotiate()

    async def fall_back(self, name: Name) -> None:
        """While published: the next picture has the fallback codec, and the server switches everybody who
        watches."""
        track = self._tracks[name]
        assert track.spec.fallback is not None
        section = self._connection.add_section(track.spec.fallback, track.fallback_cid)
        await self._connection.negotiate()
        track.section.reported = False
        track.section = section

    # --- media

    async def _reorder(self, name: Name, track: _Published) -> None:
        """With B-frames: each picture is sent when the encoder gives it, with its presentation time."""
        spec, section = track.spec, track.section
        picture = Picture(PictureSpec(*spec.size, spec.fps, spec.colour, matrix=Matrix.BT601))
        encoder = ReorderingEncoder(*spec.size, spec.fps, spec.kbps, spec.b_frames)
        first = counter = (time.time_ns() - self._began_ns) * spec.fps // S + 1
        while True:
            await _until(self._began_ns + counter * S // spec.fps)
            wanted, section.wants_key = section.wants_key, False
            for unit in encoder.encode(picture.draw(counter), counter - first, force_key=wanted):
                at_ns = self._began_ns + (first + unit.pts) * S // spec.fps
                self.sent[name].append(SentPicture(first + unit.pts, at_ns, unit.data))
                self._connection.send(section, payloads(spec.codec, unit.data), at_ns)
            counter += 1

    async def _show(self, name: Name, track: _Published) -> None:
        spec = track.spec
        picture = Picture(PictureSpec(*spec.size, spec.fps, spec.colour, matrix=Matrix.BT601))
        sent = self.sent[name]
        key = derived(spec.secret) if spec.secret else b""
        codec, encoder = "", None
        counter = (time.time_ns() - self._began_ns) * spec.fps // S + 1
        while True:
            at_ns = self._began_ns + counter * S // spec.fps
            await _until(at_ns)
            section = track.section
            if encoder is None or section.codec != codec:
                codec = section.codec
                encoder, first = LiveEncoder(codec, *spec.size, spec.fps, spec.kbps), counter
            wanted, section.wants_key = section.wants_key, False
            unit = encoder.encode(picture.draw(counter), counter - first, force_key=wanted)
            sent.append(SentPicture(counter, at_ns, unit.data))
            data = sealed_h265(unit.data, key, counter) if key else unit.data
            self._connection.send(section, payloads(codec, data, aggregate=spec.aggregate), at_ns)
            counter += 1

    async def _speak(self, track: _Published) -> None:
        section, sound = track.section, Sound(track.spec.tone_hz, 0.3)
        context = av.CodecContext.create(_ENCODER[section.codec], "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate, context.layout, context.format = 8_000, "mono", "s16"
        index = (time.time_ns() - self._began_ns) * 1000 // PACKET_MS // S + 1
        while True:
            at_ns = self._began_ns + index * PACKET_MS * S // 1000
            await _until(at_ns)
            whole = np.frombuffer(sound.block(2 * index) + sound.block(2 * index + 1), "<i2")
            # All sound here is far below 4 kHz: every sixth sample gives the same at 8 kHz.
            frame = av.AudioFrame.from_ndarray(whole[np.newaxis, ::6].copy(), "s16", "mono")
            frame.sample_rate, frame.pts = 8_000, None
            for packet in context.encode(frame):
                self._connection.send(section, [bytes(packet)], at_ns)
            index += 1


async def _until(at_ns: int) -> None:
    await asyncio.sleep(max(0, at_ns - time.time_ns()) / S)
