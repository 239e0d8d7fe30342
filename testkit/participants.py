"""Participants that publish the test pattern in real time: `Publisher`, and a command for demos.

    python -m testkit.participants --url ws://127.0.0.1:7880 --api-key K --api-secret S --room demo --count 2

Flash and beep of every publisher fall on whole seconds of the wall clock; picture `n` is due at the
publisher's epoch (a whole second) + n / fps.
"""

import argparse
import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Protocol

from livekit import api, rtc
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto import ffi_pb2
from livekit.rtc._proto import video_frame_pb2 as video_proto
from livekit.rtc._proto.e2ee_pb2 import KeyDerivationFunction
from livekit.rtc.e2ee import E2EEManager

from testkit.live_encoder import LiveEncoder
from testkit.pattern import BLOCK_MS, COLOURS, SAMPLE_RATE, Matrix, Picture, PictureSpec, Rgb, Sound

Codec = Literal["vp8", "h264", "vp9", "av1"]
"""The SDK's WebRTC has no H.265 on Linux: it publishes VP8 instead."""
Name = Literal["camera", "microphone", "screen"]

_SHORT_START_CODE = re.compile(rb"(?<!\x00)\x00\x00\x01")
_CODECS: dict[str, video_proto.VideoCodec.ValueType] = {
    "vp8": rtc.VideoCodec.VP8,
    "h264": rtc.VideoCodec.H264,
    "vp9": rtc.VideoCodec.VP9,
    "av1": rtc.VideoCodec.AV1,
}
_SOURCES = {
    "camera": rtc.TrackSource.SOURCE_CAMERA,
    "microphone": rtc.TrackSource.SOURCE_MICROPHONE,
    "screen": rtc.TrackSource.SOURCE_SCREENSHARE,
}
AUDIO_LEAD_S = 0.015
"""Sound is handed over this much early: WebRTC stamps a packet when its second block of 10 ms is in, and with
this lead flash and beep leave a receiver together (measured on an idle machine)."""
MAX_LATE_PICTURES = 3
"""A publisher that is later than this drops pictures rather than sending a burst."""
LOOKS = 5
LOOK_S = 0.02
"""Looks at WebRTC's count of pictures: together they last longer than a picture."""


class Access(Protocol):
    """What a publisher needs to reach a server; testkit.livekit_server.LivekitServer has it."""

    @property
    def ws_url(self) -> str: ...

    def token(self, room: str, identity: str, *, kind: str = "") -> str: ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Access to a server that already runs."""

    ws_url: str
    api_key: str
    api_secret: str = field(repr=False)

    def token(
        self, room: str, identity: str, *, kind: str = "", grants: api.VideoGrants | None = None
    ) -> str:
        token = api.AccessToken(self.api_key, self.api_secret).with_identity(identity)
        token = token.with_grants(grants or api.VideoGrants(room_join=True, room=room))
        token = token.with_ttl(timedelta(hours=24))
        if kind:
            token = token.with_kind(kind)  # type: ignore[arg-type]
        return token.to_jwt()


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """`encoded`: pictures are encoded here, each exactly once, and WebRTC does not scale them:
    `Publisher.sent` knows every counter and its payload, and `Publisher.dropped` how many WebRTC left out
    because its own threads came late. Not with simulcast. A publisher that is late itself leaves pictures
    out, or, where it `catches_up`, hands over all of them half an interval apart, stamped when due. `still`:
    all pictures are the first one, with an `encoded` publisher."""

    codec: Codec = "vp8"
    width: int = 640
    height: int = 360
    fps: int = 30
    kbps: int = 800
    simulcast: bool = False
    colour: Rgb = COLOURS[0]
    busy: bool = False
    encoded: bool = False
    catches_up: bool = False
    still: bool = False


@dataclass(frozen=True, slots=True)
class AudioSpec:
    tone_hz: float = 300.0
    red: bool = False
    dtx: bool = False
    level: float = 0.05
    """Level of the tone between beeps, 1 is full scale; 0: silence."""
    beep_level: float = 0.5


@dataclass(frozen=True, slots=True)
class SentPicture:
    counter: int
    at_ns: int
    """Unix ns of its deadline."""
    data: bytes = field(default=b"", repr=False)
    """The encoded access unit, if `VideoSpec.encoded`."""


def places(received: Sequence[object], published: Sequence[object], dropped: int) -> list[int]:
    """The place of each picture among the published ones. Fails if one that was sent in between is missing;
    all but `dropped` were sent."""
    found = [published.index(received[0])]
    for each in received[1:]:
        found.append(published.index(each, found[-1] + 1))
    missing = sorted({*range(found[0], found[-1])}.difference(found))
    assert len(missing) <= dropped, f"{missing} of {found[0]} to {found[-1]}, {dropped} dropped"
    return found


class _Pacer:
    """A thread that gives a track its pictures or its sound until it is stopped."""

    def __init__(self, name: str, run: Callable[[threading.Event], None]) -> None:
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._run = run
        self._thread = threading.Thread(target=self._guarded, name=name)
        self._thread.start()

    async def stop(self) -> None:
        """Raises the error that ended the thread early."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._run(self._stop)
        except Exception as error:
            self._error = error


@dataclass(slots=True)
class _Published:
    track: rtc.LocalTrack
    publication: rtc.LocalTrackPublication
    pacer: _Pacer
    source: rtc.AudioSource | rtc.VideoSource | rtc.EncodedVideoSource
    since_ns: int
    never: asyncio.Task[int] | None
    """For a track that is encoded here: how many of `Publisher.sent` came before WebRTC took any of it."""


class Publisher:
    """One participant. Joins and publishes on entry, leaves on exit; tracks are addressed by name."""

    def __init__(
        self,
        server: Access,
        room: str,
        identity: str,
        video: VideoSpec | None = None,
        audio: AudioSpec | None = None,
        screen: VideoSpec | None = None,
        *,
        kind: str = "",
        secret: bytes = b"",
        by_hkdf: bool = False,
    ) -> None:
        """`kind`: "" for a usual participant, "agent" ... `secret`: that of an encrypted room, a passphrase
        or, with `by_hkdf`, random bytes."""
        self._server = server
        self._secret = secret
        self._by_hkdf = by_hkdf
        self.room_name = room
        self.identity = identity
        self._kind = kind
        self._specs: dict[Name, VideoSpec | AudioSpec] = {}
        if video is not None:
            self._specs["camera"] = video
        if audio is not None:
            self._specs["microphone"] = audio
        if screen is not None:
            self._specs["screen"] = screen
        self._room: rtc.Room | None = None
        self._published: dict[Name, _Published] = {}
        self._sizes: dict[Name, tuple[int, int]] = {}
        wall = time.time()
        self._epoch = time.monotonic() - wall % 1
        self.epoch_ns = int(wall) * 1_000_000_000
        """Unix ns of picture 0."""
        self.sent: dict[Name, list[SentPicture]] = {"camera": [], "screen": []}

    async def __aenter__(self) -> "Publisher":
        await self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def join(self) -> None:
        """Joins the room and publishes all tracks."""
        self._room = rtc.Room()
        token = self._server.token(self.room_name, self.identity, kind=self._kind)
        options = rtc.RoomOptions(auto_subscribe=False)
        if self._secret:
            derivation = KeyDerivationFunction.HKDF if self._by_hkdf else KeyDerivationFunction.PBKDF2
            keys = rtc.KeyProviderOptions(shared_key=self._secret, key_derivation_function=derivation)
            options.encryption = rtc.E2EEOptions(keys)
        await self._room.connect(self._server.ws_url, token, options)
        for name in list(self._specs):
            await self.publish(name)

    def change_key(self, key: bytes, index: int) -> None:
        """For an encrypted room: all tracks continue with this key."""
        manager = self._encryption()
        assert manager.key_provider is not None
        manager.key_provider.set_shared_key(key, index)
        for cryptor in manager.frame_cryptors():
            cryptor.set_key_index(index)

    def ratchet_key(self, index: int = 0) -> None:
        provider = self._encryption().key_provider
        assert provider is not None
        provider.ratchet_shared_key(index)

    def _encryption(self) -> E2EEManager:
        if self._room is None:
            raise RuntimeError(f"{self.identity} is not in a room")
        return self._room.e2ee_manager

    @property
    def local(self) -> rtc.LocalParticipant:
        """The SDK's participant, which chats and sends text and data."""
        if self._room is None:
            raise RuntimeError(f"{self.identity} is not in a room")
        return self._room.local_participant

    async def leave(self) -> None:
        """Disconnects; `join` comes back with the same tracks."""
        for name in list(self._published):
            await self._stop(name)
        room, self._room = self._room, None
        if room is not None:
            await room.disconnect()

    async def publish(self, name: Name, spec: VideoSpec | AudioSpec | None = None) -> str:
        """Publishes a track, with its previous spec if none is given. Returns its SID."""
        if self._room is None:
            raise RuntimeError(f"{self.identity} is not in a room")
        spec = self._specs[name] = spec or self._specs[name]
        options = rtc.TrackPublishOptions(source=_SOURCES[name])
        run: Callable[[threading.Event], None]
        source: rtc.AudioSource | rtc.VideoSource | rtc.EncodedVideoSource
        track: rtc.LocalTrack
        if isinstance(spec, AudioSpec):
            source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=0)
            track = rtc.LocalAudioTrack.create_audio_track(name, source)
            options.dtx, options.red = spec.dtx, spec.red
            options.audio_encoding.max_bitrate = 32_000
            sound = Sound(spec.tone_hz, spec.level, spec.beep_level)
            run = partial(self._speak, source=source, sound=sound)
        else:
            options.video_codec = _CODECS[spec.codec]
            options.simulcast = spec.simulcast
            options.video_encoding.max_bitrate = spec.kbps * 1000
            options.video_encoding.max_framerate = spec.fps
            if spec.encoded:
                source = rtc.EncodedVideoSource(spec.width, spec.height)
                track = rtc.LocalVideoTrack.create_video_track(name, source)
                options.video_encoder = rtc.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED
                run = partial(self._show_encoded, name=name, source=source, spec=spec)
            else:
                source = rtc.VideoSource(spec.width, spec.height)
                track = rtc.LocalVideoTrack.create_video_track(name, source)
                run = partial(self._show, name=name, source=source, spec=spec)
        publication = await self._room.local_participant.publish_track(track, options)
        is_encoded = isinstance(source, rtc.EncodedVideoSource)
        never = asyncio.create_task(self._left_out(name, track)) if is_encoded else None
        self._published[name] = _Published(
            track, publication, _Pacer(f"{self.identity} {name}", run), source, time.time_ns(), never
        )
        return publication.sid

    async def unpublish(self, name: Name) -> None:
        published = await self._stop(name)
        if self._room is not None:
            await self._room.local_participant.unpublish_track(published.publication.sid)

    async def _stop(self, name: Name) -> _Published:
        published = self._published.pop(name)
        if published.never is not None:
            published.never.cancel()
        await published.pacer.stop()
        return published

    async def republish(self, name: Name, spec: VideoSpec | AudioSpec | None = None) -> str:
        """Unpublishes and publishes again: a new SID, and a new codec or size if `spec` says so."""
        if name in self._published:
            await self.unpublish(name)
        return await self.publish(name, spec)

    def mute(self, name: Name) -> None:
        track = self._published[name].track
        assert isinstance(track, rtc.LocalAudioTrack | rtc.LocalVideoTrack)
        track.mute()

    def unmute(self, name: Name) -> None:
        track = self._published[name].track
        assert isinstance(track, rtc.LocalAudioTrack | rtc.LocalVideoTrack)
        track.unmute()

    def set_size(self, width: int, height: int, name: Name = "camera") -> None:
        """Changes the size from the next picture on, as a turned phone does."""
        self._sizes[name] = (width, height)

    def sent_ns(self, name: Name = "camera") -> dict[int, int]:
        """When each sent picture was captured, unix ns by counter."""
        return {picture.counter: picture.at_ns for picture in self.sent[name]}

    async def dropped(self, name: Name = "camera") -> int:
        """How many pictures of the encoded track that is published now WebRTC has dropped since it took the
        first: it drops one if the next arrives before its thread had the time to look at it."""
        published = self._published[name]
        assert published.never is not None, f"{name} is not encoded here"
        # A picture in flight at the first look counts as dropped before.
        return max(0, await self._left_out(name, published.track) - await published.never)

    async def _left_out(self, name: Name, track: rtc.LocalTrack) -> int:
        """How many pictures were handed over and are not encoded, once WebRTC has taken any. The minimum of
        several looks, as one may be in flight."""
        sent = self.sent[name]
        looks: list[int] = []
        while len(looks) < LOOKS:
            before = len(sent)
            stats = await track.get_stats()
            encoded = sum(each.outbound_rtp.outbound.frames_encoded for each in stats)
            if encoded and len(sent) == before:
                looks.append(before - encoded)
            await asyncio.sleep(LOOK_S)
        return min(looks)

    def publishing_since_ns(self, name: Name) -> int:
        """Unix ns at which the track was last published."""
        return self._published[name].since_ns

    def sid(self, name: Name) -> str:
        return self._published[name].publication.sid

    # --- pacing: a thread for each track, by absolute deadlines from the epoch

    def _show(self, stop: threading.Event, name: Name, source: rtc.VideoSource, spec: VideoSpec) -> None:
        picture = _picture(spec)
        sent = self.sent[name]
        counter = self._next_index(spec.fps)
        while self._reached(counter / spec.fps, stop):
            size = self._sizes.get(name)
            if size is not None and size != (spec.width, spec.height):
                spec = replace(spec, width=size[0], height=size[1])
                picture = _picture(spec)
            frame = rtc.VideoFrame(spec.width, spec.height, rtc.VideoBufferType.I420, picture.draw(counter))
            # Before it goes out: a receiver may have it before this thread continues.
            sent.append(SentPicture(counter, self.epoch_ns + counter * 1_000_000_000 // spec.fps))
            source.capture_frame(frame)
            counter = self._following(counter, spec.fps, MAX_LATE_PICTURES)

    def _show_encoded(
        self, stop: threading.Event, name: Name, source: rtc.EncodedVideoSource, spec: VideoSpec
    ) -> None:
        picture = _picture(spec)
        sent = self.sent[name]
        encoder = LiveEncoder(spec.codec, spec.width, spec.height, spec.fps, spec.kbps)
        # An encoder takes long for the first picture, and WebRTC would take the delay for the clocks'
        # difference.
        encoder.encode(picture.draw(0), 0)
        counter = self._next_index(spec.fps)
        first, captured_s = counter, 0.0
        key, delta = video_proto.EncodedFrameType.ENCODED_FRAME_KEY, video_proto.ENCODED_FRAME_DELTA
        while self._reached(counter / spec.fps, stop):
            wanted = source.take_feedback().keyframe_requested or counter == first
            drawn = picture.draw(0 if spec.still else counter)
            unit = encoder.encode(drawn, counter - first + 1, force_key=wanted)
            if spec.catches_up:
                stop.wait(captured_s + 0.5 / spec.fps - time.monotonic())
                stamp_s = self._epoch + counter / spec.fps
            else:
                stamp_s = self._stamp_s(counter, spec.fps)
            # As WebRTC's encoders write them: receivers know no others, and start codes are authenticated.
            data = _SHORT_START_CODE.sub(b"\0\0\0\1", unit.data) if spec.codec == "h264" else unit.data
            sent.append(SentPicture(counter, self._unix_ns(stamp_s), data))
            source.capture_frame(
                rtc.EncodedVideoFrame(
                    data,
                    spec.width,
                    spec.height,
                    _CODECS[spec.codec],
                    key if unit.is_key else delta,
                    int(stamp_s * 1e6),
                )
            )
            captured_s = time.monotonic()
            # WebRTC would drop encoded pictures that come at once.
            counter = counter + 1 if spec.catches_up else self._following(counter, spec.fps, 1)

    def _speak(self, stop: threading.Event, source: rtc.AudioSource, sound: Sound) -> None:
        samples = SAMPLE_RATE * BLOCK_MS // 1000
        rate = 1000 // BLOCK_MS
        index = self._next_index(rate) + 1
        handle = source._ffi_handle.handle
        while self._reached(index / rate - AUDIO_LEAD_S, stop):
            frame = rtc.AudioFrame(sound.block(index), SAMPLE_RATE, 1, samples)
            request = ffi_pb2.FfiRequest()
            request.capture_audio_frame.source_handle = handle
            request.capture_audio_frame.buffer.CopyFrom(frame._proto_info())
            # AudioSource.capture_frame would wait for an answer on the event loop, which tests keep busy.
            FfiClient.instance.request(request)
            index += 1

    def _next_index(self, rate: int) -> int:
        return int((time.monotonic() - self._epoch) * rate) + 1

    def _following(self, counter: int, fps: int, most_late: int) -> int:
        due = int((time.monotonic() - self._epoch) * fps)
        return due if due - counter > most_late else counter + 1

    def _stamp_s(self, counter: int, fps: int) -> float:
        """Monotonic: when the picture that is handed over now was captured. Where it was due, unless that is
        more than an interval ago: WebRTC would take the difference for that of two clocks."""
        due_s, now_s = self._epoch + counter / fps, time.monotonic()
        return due_s if now_s - due_s < 1 / fps else now_s

    def _unix_ns(self, monotonic_s: float) -> int:
        return self.epoch_ns + round((monotonic_s - self._epoch) * 1e9)

    def _reached(self, offset_s: float, stop: threading.Event) -> bool:
        """Waits until a time; False if the track is over."""
        wait_s = self._epoch + offset_s - time.monotonic()
        return not stop.wait(wait_s) if wait_s > 0 else not stop.is_set()


def _picture(spec: VideoSpec) -> Picture:
    size = (spec.width, spec.height)
    return Picture(PictureSpec(*size, spec.fps, spec.colour, spec.busy, Matrix.BT601))


async def _run(arguments: argparse.Namespace) -> None:
    keys = Keys(arguments.url, arguments.api_key, arguments.api_secret)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    publishers = [
        Publisher(
            keys,
            arguments.room,
            f"participant-{i + 1}",
            VideoSpec(
                codec=arguments.codec,
                width=arguments.width,
                height=arguments.height,
                fps=arguments.fps,
                kbps=arguments.kbps,
                simulcast=arguments.simulcast,
                colour=COLOURS[i % len(COLOURS)],
                busy=arguments.busy,
            ),
            AudioSpec(tone_hz=300.0 + 110 * i),
        )
        for i in range(arguments.count)
    ]
    try:
        for publisher in publishers:
            await publisher.join()
        os.write(1, b"publishing\n")
        await stop.wait()
    finally:
        for publisher in publishers:
            await publisher.leave()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testkit.participants", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--api-secret", default=os.environ.get("LIVEKIT_API_SECRET", ""))
    parser.add_argument("--room", default="demo")
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--codec", choices=["vp8", "h264", "vp9", "av1"], default="vp8")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--kbps", type=int, default=1500)
    parser.add_argument("--simulcast", action="store_true")
    parser.add_argument("--busy", action="store_true")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
