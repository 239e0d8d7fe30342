"""Writes a movie in fragments (ISO/IEC 14496-12 8.8). Each is complete by itself, and none stays in memory.

No track waits for another: a fragment holds what has arrived of each. The header, written before the first
packet, has everything else a player needs. Times are absolute 64-bit numbers, so that a gap may last for
days. Memory holds one fragment, however long the recording.
"""

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from av.error import FFmpegError
from av.video.stream import VideoStream

from openegress.core.annex_b import units
from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError, internal
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.fragment_end import FragmentsEnd
from openegress.media.interleave import Clamp
from openegress.media.movie import Edit, TrackHead, box, ftyp, full_box, mvhd, trak
from openegress.media.mp4 import ENTRY_CHANGE
from openegress.media.passthrough import obus, parameter_sets, renewed
from openegress.media.sample_entry import sample_entry

FRAGMENT_NS = S // 2
"""Length of a fragment: how much media a kill may cost. Half a second costs a file 0.2 kB/s until it is
finished."""

OFFSET_NS = S
"""Added to every time of a segment: an audio encoder's first samples lie before media time zero, but a
fragment's decode time is unsigned. It exceeds any encoder's delay."""

PRIMING_SAMPLES = {AudioCodec.AAC: 1024, AudioCodec.OPUS: 312, AudioCodec.MP3: 1105}
"""Samples that our encoders put before media time zero. A file declares them in an edit, and players skip
them."""

ROOM = box(b"free", bytes(8))
"""The box after a file's ftyp. The head of an mdat with a 64-bit size fits into it, which turns a fragmented
file into a plain one."""

_RATE = 30
"""Pictures a second, assumed while only one has arrived."""

_SYNC, _NON_SYNC = 0x02000000, 0x01010000
"""Sample flags (8.8.3.1): independent; dependent and not a sync sample."""
_BASE_IS_MOOF = 0x020000
_DATA_OFFSET, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x100, 0x200, 0x400, 0x800
_TEMPORAL_DELIMITER, _PADDING = 2, 15
"""AV1 OBUs that a sample must not hold (AV1 in ISOBMFF 2.4)."""


def file_header(formats: Sequence[StreamFormat], lead_ns: int | None = None) -> bytes:
    """Builds the beginning of a file. `lead_ns`: how much before media time zero each track may begin; None:
    only its encoder's own samples."""
    if lead_ns is None:
        return ftyp() + ROOM + _moov(formats, [_priming(f) for f in formats])
    return ftyp() + ROOM + _moov(formats, [lead_ns * _timescale(f) // S for f in formats])


def init_segment(formats: Sequence[StreamFormat]) -> bytes:
    """Builds the initialisation segment of HLS. Its media's times are OFFSET_NS late, in every segment
    alike."""
    return ftyp() + _moov(formats, [0 for _ in formats])


def _priming(f: StreamFormat) -> int:
    """Number of samples before media time zero; 0 for passed-through media."""
    if isinstance(f.codec, AudioCodec) and f.template is not None:
        return PRIMING_SAMPLES.get(f.codec, 0)
    return 0


def _moov(formats: Sequence[StreamFormat], zeros: Sequence[int]) -> bytes:
    """Builds the moov. `zeros`: media time zero in each track's time scale."""
    traks, defaults = [], []
    for number, (f, zero) in enumerate(zip(formats, zeros, strict=True), 1):
        edits = [Edit(0, zero)] if zero else []
        head = TrackHead(number, f.kind, _timescale(f), [sample_entry(f)], edits)
        traks.append(trak(head, EMPTY_TABLES))
        defaults.append(trex(number, f.kind))
    return box(b"moov", mvhd(0, len(formats)), *traks, box(b"mvex", *defaults))


def trex(number: int, kind: MediaKind) -> bytes:
    """Builds the defaults for the samples of a track, where a fragment states nothing else (8.8.3)."""
    flags = _SYNC if kind is MediaKind.AUDIO else _NON_SYNC
    return full_box(b"trex", 0, 0, struct.pack(">IIIII", number, 1, 0, 0, flags))


EMPTY_TABLES = b"".join(
    full_box(kind, 0, 0, bytes(size))
    for kind, size in ((b"stts", 4), (b"stsc", 4), (b"stsz", 8), (b"stco", 4))
)
"""The empty tables of a track whose samples are in fragments."""


def _timescale(f: StreamFormat) -> int:
    if f.time_base.numerator != 1:
        raise internal(f"MP4 cannot hold a time base of {f.time_base}")
    return f.time_base.denominator


@dataclass(frozen=True, slots=True)
class _Sample:
    dts: int
    duration: int
    """Duration in the track's time scale; 0: unknown."""
    composition: int
    """Presentation time minus decode time."""
    is_key: bool
    data: bytes


@dataclass(slots=True)
class _Track:
    number: int
    form: StreamFormat
    clamp: Clamp
    last_duration: int
    """Duration of a sample without a successor, in the track's time scale: that of the sample before, at
    first a guess; at a variable rate, what its packet says."""
    samples: list[_Sample] = field(default_factory=list)
    first_ns: int = 0
    """DTS of the first item of `samples`, before the offset."""

    last_ns: int = 0
    """DTS of the last item of `samples`."""

    def known(self) -> "tuple[list[_Sample], list[_Sample]]":
        """Splits the samples after the last one whose length is known. At a variable rate a picture lasts
        until the next one comes."""
        if self.form.has_variable_rate and self.samples and not self.samples[-1].duration:
            return self.samples[:-1], self.samples[-1:]
        return self.samples, []


class FragmentWriter:
    """Takes packets and passes fragments to `put`, each in one call. One writer belongs to one thread.

    `header` goes in front of the fragments, and a change of a passed-through format between them; `first`
    numbers the first one. Exceptions of `put` come out of open(), write(), flush() and close().
    """

    def __init__(
        self,
        put: Callable[[bytes], object],
        formats: Sequence[StreamFormat],
        *,
        header: bytes = b"",
        first: int = 1,
        lead_ns: int | None = None,
        behind: FragmentsEnd | None = None,
    ) -> None:
        """`lead_ns`: as in `header`. `behind`: what the file has already, including its header. Raises
        EgressError if the file's tracks differ."""
        self._put = put
        self._header = header
        self._lead_ns = lead_ns
        self._behind = behind
        self._sequence = behind.fragments + 1 if behind is not None else first
        self._before = b""
        self._tracks: dict[MediaKind | int, _Track] = {}
        """Tracks by kind, or by the file track's number if packets name one."""
        least = _after(behind, formats) if behind is not None else {}
        for number, f in enumerate(formats, 1):
            self.add(f.kind, number, f, least=least.get(f.kind, 0))
        # An HLS segment has one format; a change of format begins another segment.
        self._entries = _Entries(formats) if header else None

    def _offset_ns(self, f: StreamFormat) -> int:
        if self._lead_ns is not None:
            return self._lead_ns
        return -(-_priming(f) * S // _timescale(f)) if self._header else OFFSET_NS

    def add(self, key: MediaKind | int, number: int, f: StreamFormat, *, least: int = 0) -> None:
        """Adds a track of the header. `key`: the kind of its packets, or the number of their file track.
        `least`: the earliest decode time of its next sample."""
        clamp = Clamp(f.time_base, self._offset_ns(f), least=least)
        self._tracks[key] = _Track(number, f, clamp, _timescale(f) // _RATE)

    def open(self) -> None:
        """Writes the header, or what has changed since."""
        if self._behind is not None:
            for track in self._tracks.values():
                entry = sample_entry(track.form)
                if (before := self._behind.entries.get(track.number)) is not None and before != entry:
                    self._put(_entry_change(track.number, entry))
        elif self._header:
            self._put(self._header)

    def write(self, packet: Packet) -> None:
        """Takes a packet, and first writes the previous fragment if it is long enough. Ignores packets of
        unknown streams."""
        track = self._tracks.get(packet.kind if packet.track is None else packet.track.number)
        if track is None:
            return
        at_ns = packet.dts * S * packet.time_base.numerator // packet.time_base.denominator
        pts, dts, duration = track.clamp.place(packet)
        if track.form.has_variable_rate:
            track.last_duration, duration = duration, 0
            if track.samples:
                track.samples[-1] = replace(track.samples[-1], duration=dts - track.samples[-1].dts)
        if track.samples and at_ns - track.first_ns >= FRAGMENT_NS:
            self.flush()
        change = self._entries.change_at(packet) if self._entries is not None else b""
        if change:
            self.flush()
            self._put(_entry_change(track.number, change))
        if not track.samples:
            track.first_ns = at_ns
        track.last_ns = at_ns
        data = sample(track.form, packet.data)
        track.samples.append(_Sample(dts, duration, pts - dts, packet.is_key, data))

    def put_before(self, boxes: bytes) -> None:
        """Puts `boxes` in front of the current fragment."""
        self._before += boxes

    def flush(self) -> None:
        """Writes the media that has arrived, and whose length is known, as a fragment."""
        waiting = {}
        for kind, track in self._tracks.items():
            track.samples, waiting[kind] = track.known()
        self._write()
        for kind, track in self._tracks.items():
            track.samples, track.first_ns = waiting[kind], track.last_ns

    def _write(self) -> None:
        tracks = [track for track in self._tracks.values() if track.samples]
        if not tracks:
            return
        mfhd = full_box(b"mfhd", 0, 0, struct.pack(">I", self._sequence))
        self._sequence += 1
        trafs = [_Traf(track) for track in tracks]
        moof_bytes = 8 + len(mfhd) + sum(len(traf.box_at(0)) for traf in trafs)
        at = moof_bytes + 8
        moof = [mfhd]
        for traf in trafs:
            moof.append(traf.box_at(at))
            at += traf.data_bytes
        media = [each.data for track in tracks for each in track.samples]
        for track in tracks:
            track.samples = []
        head = struct.pack(">I4s", at - moof_bytes, b"mdat")
        before, self._before = self._before, b""
        self._put(b"".join((before, box(b"moof", *moof), head, *media)))

    def close(self) -> None:
        """Writes what has arrived. There is no trailer."""
        self._write()

    def abandon(self) -> None:
        """Stops without writing anything more."""
        for track in self._tracks.values():
            track.samples = []


def _after(behind: FragmentsEnd, formats: Sequence[StreamFormat]) -> dict[MediaKind, int]:
    """Returns the earliest decode time of each track's next sample. Raises EgressError."""
    wanted = {number: (f.kind, _timescale(f), sample_entry(f)[4:8]) for number, f in enumerate(formats, 1)}
    there = {
        number: (track.kind, track.timescale, behind.entries[number][4:8])
        for number, track in behind.tracks.items()
    }
    if any(wanted.get(number) != track for number, track in there.items()):
        raise internal("the recording now has other tracks or codecs than the file that it continues")
    ends = {track.kind: track.last_dts + 1 for track in behind.tracks.values()}
    return {f.kind: ends.get(f.kind, 0) for f in formats}


def _entry_change(number: int, entry: bytes) -> bytes:
    return box(b"uuid", ENTRY_CHANGE, struct.pack(">I", number), entry)


class _Traf:
    """A track's part of a fragment (8.8.6 to 8.8.8 and 8.8.12)."""

    def __init__(self, track: _Track) -> None:
        samples = track.samples
        self.data_bytes = sum(len(each.data) for each in samples)
        flags = _DATA_OFFSET | _DURATION | _SIZE
        is_video = track.form.kind is MediaKind.VIDEO
        is_reordered = any(each.composition for each in samples)
        flags |= (_FLAGS if is_video else 0) | (_COMPOSITION if is_reordered else 0)
        durations = [after.dts - each.dts for each, after in itertools.pairwise(samples)]
        if durations and not track.form.has_variable_rate:
            track.last_duration = durations[-1]
        durations.append(samples[-1].duration or track.last_duration)
        if not track.form.has_variable_rate:
            track.last_duration = durations[-1]
        rows: list[int] = []
        for each, duration in zip(samples, durations, strict=True):
            rows += (duration, len(each.data))
            if is_video:
                rows.append(_SYNC if each.is_key else _NON_SYNC)
            if is_reordered:
                rows.append(each.composition)
        self._head = full_box(b"tfhd", 0, _BASE_IS_MOOF, struct.pack(">I", track.number))
        self._head += full_box(b"tfdt", 1, 0, struct.pack(">Q", samples[0].dts))
        self._flags = flags
        self._count = len(samples)
        self._rows = struct.pack(f">{len(rows)}I", *rows)

    def box_at(self, data_offset: int) -> bytes:
        """Builds the box. `data_offset`: offset of the track's media from the start of the moof."""
        count = struct.pack(">Ii", self._count, data_offset)
        return box(b"traf", self._head, full_box(b"trun", 1, self._flags, count, self._rows))


class _Entries:
    """Finds where a passed-through video needs another sample entry: its key frame has other parameter
    sets."""

    def __init__(self, formats: Sequence[StreamFormat]) -> None:
        video = next((f for f in formats if f.is_passed_through), None)
        self._codec = video.codec if video is not None and isinstance(video.codec, VideoCodec) else None
        self._formats = [video] if video is not None else []
        self._entry = sample_entry(video) if video is not None else b""
        self._known = {_stated(video): self._entry} if video is not None else {}
        """Sample entries, by the parameter sets they hold."""

    def change_at(self, packet: Packet) -> bytes:
        """Returns the entry of the samples from `packet` on; b"" if it has not changed."""
        if self._codec is None or packet.kind is not MediaKind.VIDEO or not packet.is_key:
            return b""
        found = parameter_sets(self._codec, packet.data)
        if not found:
            return b""
        if found not in self._known:
            self._known[found] = self._made(packet)
        entry = self._known[found]
        if entry == self._entry:
            return b""
        self._entry = entry
        return entry

    def _made(self, packet: Packet) -> bytes:
        try:
            return sample_entry(renewed(self._formats, packet)[0])
        except (FFmpegError, EgressError):
            # If FFmpeg cannot describe it, the current entry stays; the media states the parameters too.
            return self._entry


def _stated(form: StreamFormat) -> bytes:
    """Returns the parameter sets in a format that came from a key frame. FFmpeg need not read that again,
    which takes 8 ms and memory for its pictures."""
    template = form.template
    extradata = template.codec_context.extradata if isinstance(template, VideoStream) else None
    return parameter_sets(form.codec, extradata or b"") if isinstance(form.codec, VideoCodec) else b""


def sample(form: StreamFormat, data: bytes) -> bytes:
    """Converts a packet's data to MP4's form: NAL units with their sizes (ISO/IEC 14496-15 5.3.3), OBUs
    without delimiters, anything else unchanged."""
    match form.codec:
        case VideoCodec.H264 | VideoCodec.H265:
            parts: list[bytes] = []
            for unit in units(data):
                parts += (struct.pack(">I", len(unit)), unit)
            return b"".join(parts)
        case VideoCodec.AV1:
            return b"".join(o for o in obus(data) if o[0] >> 3 & 0x0F not in (_TEMPORAL_DELIMITER, _PADDING))
        case _:
            return data
