"""Cuts a span out of a recording of all tracks of a room into a file of the same type, with all tracks."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge

from openegress.core.codecs import AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.span import Span
from openegress.media import Packet
from openegress.media.clip.clipped_tracks import APPEARS_NS, ClippedTracks, StoredTrack
from openegress.media.clip.cut import ClipSink, CutPictures
from openegress.media.clip.edge import Edge
from openegress.media.clip.pictures import PictureCut
from openegress.media.clip.sound import SoundCut
from openegress.media.file_track import DataTopic, FileTrack, codec_private
from openegress.media.matroska import MatroskaWriter
from openegress.media.mcap import McapWriter
from openegress.media.meeting_track import GAP_NS
from openegress.media.mp4_tracks import Mp4TracksWriter
from openegress.media.passthrough import audio_format, reorder_depth, video_format

_MAX_EDGE_BYTES = 256 * 1024 * 1024
"""Limit for all pictures that are decoded for edges, which are in memory at once."""

Writer = MatroskaWriter | Mp4TracksWriter | McapWriter


def cut_tracks(
    source: ClippedTracks, container: Container, span: Span, sink: ClipSink, is_stopped: Callable[[], bool]
) -> CutPictures:
    """Writes the clip to `sink`. Blocking; returns early once `is_stopped`. Raises EgressError, FFmpegError
    and OSError."""
    cutting = _TracksCutting(source, span)
    edges = cutting.edges(is_stopped)
    writer = _writer(container, sink, source.started_at_ns + span.begin_ns)
    writer.open()
    is_empty = True
    for packet in merge(edges, cutting.copied(), key=_at_ns):
        if is_stopped():
            break
        writer.write(packet)
        is_empty = False
    if is_empty and not is_stopped():
        raise EgressError(Code.INVALID_ARGUMENT, "nothing was recorded in that span", phase=Phase.RECORDING)
    writer.close()
    pictures = [each.cut for each in cutting.tracks if isinstance(each.cut, PictureCut)]
    return CutPictures(sum(each.copied for each in pictures), sum(each.encoded for each in pictures))


def _writer(container: Container, sink: ClipSink, started_at_ns: int) -> Writer:
    match container:
        case Container.MKV | Container.MKA:
            return MatroskaWriter(sink.write, sink.rewrite, started_at_ns)
        case Container.MP4:
            return Mp4TracksWriter(sink.write, sink.rewrite)
        case Container.MCAP:
            return McapWriter(sink.write, started_at_ns)
        case _:
            raise internal(f"a clip of all tracks cannot be a {container.value}")


def _at_ns(packet: Packet) -> int:
    return packet.pts_ns


class _CutTrack:
    """One track of the clip."""

    def __init__(
        self,
        cut: PictureCut | SoundCut,
        *,
        file_track: FileTrack | None = None,
        topic: DataTopic | None = None,
    ) -> None:
        self.cut = cut
        self._file_track = file_track
        self._topic = topic
        self._last_ns = 0
        """Time at which its last picture was shown."""
        self.held_bytes = 0
        """Size of the packets held since its last key frame."""

    @property
    def is_at_its_edge(self) -> bool:
        return isinstance(self.cut, PictureCut) and self.cut.is_seeking

    def is_stale(self, span: Span) -> bool:
        """Whether nothing of the track is on display when the clip begins: it was muted, or its publisher had
        left."""
        return self._last_ns < span.begin_ns - GAP_NS

    def forget_stale(self, span: Span) -> None:
        if self.is_stale(span) and isinstance(self.cut, PictureCut):
            self.cut.forget()

    def take(self, packet: Packet) -> list[Packet]:
        if self.is_at_its_edge:
            self.held_bytes = len(packet.data) + (0 if packet.is_key else self.held_bytes)
            self._last_ns = packet.pts_ns
        return self._marked(self.cut.take(packet)) if not self.cut.is_over else []

    def finish(self) -> list[Packet]:
        if isinstance(self.cut, SoundCut) or self.cut.is_over:
            return []
        return self._marked(self.cut.finish())

    def _marked(self, packets: list[Packet]) -> list[Packet]:
        return [replace(each, track=self._file_track, topic=self._topic) for each in packets]


@dataclass(slots=True)
class _TracksCutting:
    source: ClippedTracks
    span: Span
    _cut: dict[int, _CutTrack] = field(default_factory=dict)
    _taken: Counter[int] = field(default_factory=Counter)
    """Number of packets of each track that make up its edge, which come first."""

    @property
    def tracks(self) -> list[_CutTrack]:
        return list(self._cut.values())

    def edges(self, is_stopped: Callable[[], bool]) -> list[Packet]:
        """Returns the edges of all picture tracks, up to where copying starts. They come late, because making
        one needs everything up to the next key frame. Raises EgressError."""
        found: list[Packet] = []
        for number, packet in self._packets():
            if is_stopped() or (self._is_behind(packet) and not self._has_edges()):
                break
            if packet.kind is not MediaKind.VIDEO:
                continue
            track = self._of(number, packet)
            self._taken[number] += track is None or track.is_at_its_edge
            if track is not None and track.is_at_its_edge:
                if packet.is_key and packet.pts_ns > self.span.begin_ns:
                    track.forget_stale(self.span)
                found += track.take(packet)
                self._refuse_large()
        for track in self.tracks:
            if track.is_at_its_edge:
                track.forget_stale(self.span)
                found += track.finish()
        return sorted(found, key=_at_ns)

    def _is_behind(self, packet: Packet) -> bool:
        """Whether the packet lies so far behind the start of the span that a track that begins there does so
        with a key frame."""
        return packet.pts_ns > self.span.begin_ns + APPEARS_NS

    def _has_edges(self) -> bool:
        return any(each.is_at_its_edge and not each.is_stale(self.span) for each in self.tracks)

    def _refuse_large(self) -> None:
        """Raises EgressError if the edges are too large."""
        if sum(each.held_bytes for each in self.tracks if each.is_at_its_edge) > _MAX_EDGE_BYTES:
            raise EgressError(
                Code.RESOURCE_EXHAUSTED,
                "the publishers of the tracks sent too few key frames for such a clip: ask for a shorter one",
                fault=Fault.SERVICE,
            )

    def copied(self) -> Iterator[Packet]:
        """Returns all other packets of the clip."""
        seen: Counter[int] = Counter()
        for number, packet in self._packets():
            seen[number] += 1
            if seen[number] <= self._taken[number]:
                continue
            if (track := self._of(number, packet)) is not None:
                yield from track.take(packet)
        for track in self.tracks:
            yield from track.finish()

    def _packets(self) -> Iterator[tuple[int, Packet]]:
        for each in self.source.packets(self.span.begin_ns, self.span.end_ns):
            yield each.number, each.packet

    def _of(self, number: int, packet: Packet) -> _CutTrack | None:
        """Returns the packet's track; None for a picture track until its first key frame, with which it must
        begin."""
        if number not in self._cut:
            if packet.kind is MediaKind.VIDEO and not packet.is_key:
                return None
            self._cut[number] = self._begun(self.source.tracks[number], packet)
        return self._cut[number]

    def _begun(self, stored: StoredTrack, packet: Packet) -> _CutTrack:
        begin_ns, end_ns, number = self.span.begin_ns, self.span.end_ns, len(self._cut) + 1
        codec = stored.codec
        if codec is None:
            tags = dict(stored.tags)
            topic = DataTopic(number, tags.get("PARTICIPANT_IDENTITY", ""), tags.get("TOPIC", ""))
            return _CutTrack(SoundCut(begin_ns, end_ns), topic=topic)
        if isinstance(codec, AudioCodec):
            form = audio_format(codec)
            file_track = FileTrack(number, form, codec_private(form), stored.name, stored.tags)
            return _CutTrack(SoundCut(begin_ns, end_ns), file_track=file_track)
        assert isinstance(codec, VideoCodec)
        form = video_format(codec, packet.data, stored.width, stored.height)
        file_track = FileTrack(number, form, codec_private(form), stored.name, stored.tags)
        reorders = bool(reorder_depth(form))
        cut = PictureCut(begin_ns, end_ns, Edge(codec).encoded, reorders=reorders)
        return _CutTrack(cut, file_track=file_track)
