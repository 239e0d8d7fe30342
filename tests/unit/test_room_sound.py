"""A room's sound in a transcoded recording: where it lies, and what the loss of a packet costs."""

import heapq
from collections.abc import Collection
from fractions import Fraction
from functools import cache
from itertools import groupby
from types import SimpleNamespace
from typing import cast

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.units import MS, S
from openegress.media.mixer import BLOCK_SAMPLES, Channel, mix
from openegress.media.samples import SAMPLE_RATE
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.room.receiver import Feedback, TrackReceiver
from openegress.room.rtp.nack import AUDIO
from openegress.room.rtp.packets import RtpPacket
from openegress.room.rtp.rtcp import SenderReport
from openegress.room.signalling.sdp import Encoding, PayloadType
from openegress.room.sync.participant import RoomSync
from openegress.room.transport.udp import RELAXED_PAUSE_S
from openegress.source.room.compositor import AUDIO_PATIENCE_NS
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.selection import Routed, Selection
from openegress.source.room.track_decoder import AudioTrackDecoder
from openegress.source.room.track_follower import TrackFollower

BASE_NS = 1_700_000_000 * S
LOUD = b"\x80" * 160
"""20 ms of PCMU at full scale."""
TYPES = {
    0: PayloadType(0, Encoding.PCMU, 8_000, 1, None, ()),
    63: PayloadType(63, Encoding.RED, 48_000, 2, None, ()),
}
MICROPHONE = Track(
    "TR_1",
    "microphone",
    MediaKind.AUDIO,
    TrackSource.MICROPHONE,
    "audio/opus",
    Participant("PA_1", "ann", "Ann", "standard"),
    muted=False,
)


@cache
def noise(packets: int) -> list[bytes]:
    """Opus, 20 ms each, never silent."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "stereo", "s16"
    encoder.time_base = Fraction(1, SAMPLE_RATE)
    encoder.bit_rate = 64_000
    samples = np.random.default_rng(1).integers(-20_000, 20_000, (1, 2 * BLOCK_SAMPLES), np.int16)
    encoded: list[bytes] = []
    for index in range(packets + 1):
        frame = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
        frame.sample_rate, frame.pts = SAMPLE_RATE, index * BLOCK_SAMPLES
        encoded += [bytes(packet) for packet in encoder.encode(frame)]
    return encoded[:packets]


def silences_ms(samples: NDArray[np.int16]) -> list[int]:
    """Where it is silent for longer than a resampler is, between the first sound and the last."""
    loud = np.abs(samples[:, 0].astype(np.int32)) > 50
    heard = np.flatnonzero(loud)
    runs = [(is_loud, sum(1 for _ in run)) for is_loud, run in groupby(loud[heard[0] : heard[-1]])]
    return [
        round(count * 1000 / SAMPLE_RATE)
        for is_loud, count in runs
        if not is_loud and count > SAMPLE_RATE // 200
    ]


# --- where it lies


def heard(track: AudioTrackDecoder, until_ms: int) -> NDArray[np.int16]:
    blocks = [mix([track.mixed], index * BLOCK_SAMPLES) for index in range(until_ms // 20)]
    return np.frombuffer(b"".join(blocks), np.int16).reshape(-1, 2)


def put(
    track: AudioTrackDecoder, at_ms: int, rtp_ms: int | None = None, codec: AudioCodec = AudioCodec.PCMU
) -> None:
    """20 ms of sound; RTP time is that of the clock, by default."""
    rate, data = (8_000, LOUD) if codec is AudioCodec.PCMU else (48_000, noise(10)[5])
    rtp = (at_ms if rtp_ms is None else rtp_ms) * rate // 1000 + (1 << 32)
    track.put(at_ms * MS, EncodedFrame("TR_1", codec, data, BASE_NS + at_ms * MS, rtp, rate, True))


@pytest.mark.parametrize("codec", [AudioCodec.PCMU, AudioCodec.OPUS])
@pytest.mark.parametrize("pause_ms", [20, 40, 60, 80, 100, 380])
def test_a_pause_is_as_long_as_the_sender_makes_it(codec: AudioCodec, pause_ms: int) -> None:
    """Speech is back at any time between two packets of comfort noise, and lips move with it."""
    track = AudioTrackDecoder(Channel.BOTH, 0)
    for index in range(5):
        put(track, index * 20, codec=codec)
    for index in range(50):
        put(track, 100 + pause_ms + index * 20, codec=codec)
    assert track.mixed.end is not None
    assert abs(track.mixed.end - (1100 + pause_ms) * SAMPLE_RATE // 1000) <= SAMPLE_RATE // 400
    assert silences_ms(heard(track, 2000)) == pytest.approx([pause_ms], abs=3)


def test_sound_without_a_loss_has_no_pause() -> None:
    """Not even where RTP time and the clock part for a while."""
    track = AudioTrackDecoder(Channel.BOTH, 0)
    for index in range(100):
        put(track, index * 20 + min(30, index), rtp_ms=index * 20)
    assert silences_ms(heard(track, 2200)) == []


@pytest.mark.parametrize("restart_ms", [-1_000_000, 20_000, 500_000])
def test_an_rtp_clock_that_starts_anew_says_nothing_about_a_pause(restart_ms: int) -> None:
    track = AudioTrackDecoder(Channel.BOTH, 0)
    for index in range(5):
        put(track, index * 20, rtp_ms=1_000_000 + index * 20)
    for index in range(5):
        put(track, 160 + index * 20, rtp_ms=1_000_000 + restart_ms + index * 20)
    assert silences_ms(heard(track, 400)) == pytest.approx([60], abs=3)


def test_another_codec_counts_in_other_units() -> None:
    track = AudioTrackDecoder(Channel.BOTH, 0)
    for index in range(5):
        put(track, index * 20)
    for index in range(5):
        put(track, 100 + index * 20, codec=AudioCodec.OPUS)
    for index in range(5):
        put(track, 240 + index * 20)
    assert silences_ms(heard(track, 400)) == pytest.approx([40], abs=3)


def test_a_damaged_packet_leaves_its_place_open() -> None:
    track = AudioTrackDecoder(Channel.BOTH, 0)
    for index in range(10):
        if index == 5:
            damaged = b"\xff\xff"  # 63 frames of 20 ms
            track.put(
                100 * MS, EncodedFrame("TR_1", AudioCodec.OPUS, damaged, 0, 4800 + (1 << 32), 48_000, True)
            )
        else:
            put(track, index * 20, codec=AudioCodec.OPUS)
    assert silences_ms(heard(track, 300)) == pytest.approx([20], abs=3)


# --- what a loss costs


class Unheard:
    """Nobody answers what the receiver asks for."""

    def wake(self, due_ns: int) -> None: ...

    def codec(self, receiver: TrackReceiver, codec: object) -> None: ...


class Tape:
    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.blocks.append(samples)


def red(own: bytes, before: bytes) -> bytes:
    """RFC 2198, with the packet before."""
    return bytes((0x80 | 111,)) + (960 << 10 | len(before)).to_bytes(3) + b"\x6f" + before + own


def packet(number: int, *, redundant: bool) -> RtpPacket:
    if not redundant:
        return RtpPacket(1, 0, number, number * 160, False, LOUD)
    sounds = noise(300)
    payload = red(sounds[number], sounds[number - 1] if number else b"")
    return RtpPacket(1, 63, number, number * 960, False, payload)


async def recorded(lost: Collection[int], *, redundant: bool, way_ms: int = 100) -> NDArray[np.int16]:
    """5 s of a transcoded recording of a track whose `lost` packets nobody has; time is played."""
    now_ns = 0
    session = SimpleNamespace(now_ns=lambda: BASE_NS + now_ns, drain=lambda: None, batch_reads=lambda: None)
    source = RoomFrameSource(cast(TrackFollower, session), None, with_audio=True)
    source._timeline.zero_ns = BASE_NS
    source._sink = tape = Tape()  # type: ignore[assignment]
    source.on_selection(Selection(audio=(Routed(MICROPHONE, Channel.BOTH),)))
    receiver = TrackReceiver(
        "TR_1",
        MICROPHONE.key,
        lambda frame: source.on_frame(MICROPHONE, frame),
        cast(Feedback, Unheard()),
        RoomSync(),
        BASE_NS,
    )
    receiver.attach(1, None, TYPES)
    arrivals = [
        ((number * 20 + way_ms) * MS, number, packet(number, redundant=redundant))
        for number in range(250)
        if number not in lost
    ]
    heapq.heapify(arrivals)
    while now_ns < 8 * S:
        now_ns += 5 * MS
        while arrivals and arrivals[0][0] <= now_ns:
            receiver.rtp(heapq.heappop(arrivals)[2]._replace(arrival_ns=now_ns), now_ns)
            receiver.sender_report(SenderReport(1, BASE_NS, 0, 0), now_ns)
        due_ns = receiver.next_due_ns()
        if due_ns is not None and due_ns <= now_ns:
            receiver.due(now_ns)
        if now_ns % round(source._tick_s * S) == 0:
            source._drain.look()
            source._take(now_ns)
            source._give(BASE_NS + now_ns)
    return np.frombuffer(b"".join(tape.blocks), np.int16).reshape(-1, 2)


@pytest.mark.parametrize("way_ms", [20, 100, 350])
@pytest.mark.parametrize(
    ("lost", "silent_ms"),
    [
        ([100], [20]),
        ([100, 101, 102], [60]),
        ([100, 110, 140], [20, 20, 20]),
        ([*range(100, 150)], [1000]),
    ],
    ids=str,
)
async def test_what_is_lost_for_good_costs_no_more_than_itself(
    lost: Collection[int], silent_ms: list[int], way_ms: int
) -> None:
    samples = await recorded(lost, redundant=False, way_ms=way_ms)
    assert silences_ms(samples) == pytest.approx(silent_ms, abs=3)


@pytest.mark.parametrize(
    ("lost", "silent_ms"), [([100], []), ([100, 102, 150], []), ([100, 101], [20])], ids=str
)
async def test_redundant_sound_makes_up_for_what_is_lost(lost: Collection[int], silent_ms: list[int]) -> None:
    samples = await recorded(lost, redundant=True)
    assert silences_ms(samples) == pytest.approx(silent_ms, abs=3)


def test_sound_behind_a_loss_comes_before_a_recording_stops_waiting_for_it() -> None:
    assert AUDIO.patience_ns + round(RELAXED_PAUSE_S * S) <= AUDIO_PATIENCE_NS


async def test_sound_from_long_before_a_start_is_forgotten() -> None:
    """A page may be waited for by twenty-five people for an hour. Who was selected when is kept."""
    now_ns = 0
    follower = SimpleNamespace(now_ns=lambda: BASE_NS + now_ns, drain=lambda: None, batch_reads=lambda: None)
    source = RoomFrameSource(cast(TrackFollower, follower), None, with_audio=True)
    selections = 0
    for now_ns in range(0, 20 * S, 20 * MS):
        if now_ns % (5 * S) == 0:
            source.on_selection(Selection(audio=(Routed(MICROPHONE, Channel.BOTH),)))
            selections += 1
        for _ in range(25):
            frame = EncodedFrame("TR_1", AudioCodec.PCMU, LOUD, BASE_NS + now_ns, 0, 8_000, True)
            source.on_frame(MICROPHONE, frame)
    items = list(source._inbox.take_all())
    frames = [item[1] for item in items if isinstance(item, tuple) and item[0] is MICROPHONE]
    assert [frame.at_ns for frame in frames if isinstance(frame, EncodedFrame)] == [
        BASE_NS + 19 * S - 20 * MS + 20 * MS * slot for slot in range(51) for _ in range(25)
    ]
    assert sum(isinstance(item, tuple) and isinstance(item[1], Selection) for item in items) == selections
