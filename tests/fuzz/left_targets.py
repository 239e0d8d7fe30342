"""What is read again later: journals, logs and notes in the spool, records, and files for compose."""

import contextlib
import io
import os

import msgspec
from av.error import FFmpegError

from openegress.api import wire_json
from openegress.app import compose
from openegress.config.room_keys import RoomKeySettings
from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.errors import EgressError
from openegress.core.sidecars import Sidecar
from openegress.core.span import Span
from openegress.core.units import MS
from openegress.core.values import Secret
from openegress.handler.recording_journal import RecordingJournal
from openegress.media import fragment_end
from openegress.media.clip.fragment_window import FragmentWindow
from openegress.media.clip.source import CLIPPED, ClipPart, ClipSource, end_ns
from openegress.media.clip.stitched import Stitched
from openegress.media.clip.tracks import cut_tracks
from openegress.media.meeting_file import MeetingFile
from openegress.media.meeting_track import MeetingTrack
from openegress.media.mp4 import Mp4Error
from openegress.output.clip.files import TRACK_CONTAINERS, tracks_of
from openegress.output.images import recover
from openegress.output.sidecar import log
from openegress.output.sidecar.render import render
from openegress.request.layout_file import LayoutFaults, parse_layout
from openegress.room.rtp.data_track import DataFrames
from openegress.room.rtp.data_track import parse as parse_data_track
from openegress.source.room.meeting_history import MeetingHistory, of_events, of_packets
from openegress.source.room.meeting_lines import lines_of
from openegress.storage import backed_up, journal
from openegress.store import record
from tests.fuzz.registry import in_file, pieces, recovery_memory, target


@target
def recording_journal(data: bytes) -> None:
    """Of a recording whose handler died."""
    with in_file(data, f"EG_1/{journal.NAME}") as path, contextlib.suppress(EgressError, msgspec.DecodeError):
        found = RecordingJournal.take_over(path.parent)
        try:
            assert found.told is not None and found.names is not None and found.markers is not None
        finally:
            found.release()


@target
def sidecar_log(data: bytes) -> None:
    with in_file(data, log.NAME) as path:
        for sidecar in Sidecar:
            with contextlib.suppress(EgressError):
                render(path.parent, sidecar, "recording", 10**18)


@target
def spool_notes(data: bytes) -> None:
    """Which images were taken, and which files went to the backup."""
    with in_file(data, recover._TAKEN) as path:
        recover.read_taken(path.parent)
        os.link(path, path.with_name(backed_up.NAME))
        backed_up.names(path.parent)


@target
def stored_record(data: bytes) -> None:
    """In Redis, or in the database."""
    info = record.read("EG_1", data)
    if info is not None:
        record.judge(None, info)
        record.judge(info, info)
        wire_json.to_dict(info)


@target
def tracks_file(data: bytes) -> None:
    with in_file(data, "a.mkv") as path, contextlib.suppress(EgressError):
        file = MeetingFile(path)
        lines = lines_of(file.tracks)
        MeetingHistory(lines).moments(of_packets(lines))
        for _ in file.packets():
            pass


TRACK = MeetingTrack(
    0, MediaKind.AUDIO, AudioCodec.OPUS, "ann", "Ann", "microphone", "", 0, 0, spans_ns=((0, 10**9),)
)


@target
def events_file(data: bytes) -> None:
    with in_file(data, "a.events.jsonl") as path, contextlib.suppress(EgressError):
        MeetingHistory(lines_of([TRACK])).moments(of_events(compose._lines(path)))


@target
def layout_file(data: bytes) -> None:
    with contextlib.suppress(LayoutFaults):
        parse_layout(data.decode(errors="replace"), "name")


@target
def room_key(data: bytes) -> None:
    for derivation in ("pbkdf2", "hkdf"):
        key = RoomKeySettings(rooms=("*",), key=Secret(data.decode("latin-1")), derivation=derivation)  # type: ignore[arg-type]
        with contextlib.suppress(ValueError):
            assert key.material is not None


class _Bytes:
    """Implements media.clip.Bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


@target
def clip_source(data: bytes) -> None:
    """What a clip is cut from lies in a storage, where others may have put something else. The first byte
    says what it is."""
    if not data:
        return
    container, file = CLIPPED[data[0] % len(CLIPPED)], _Bytes(data[1:])
    with recovery_memory():
        with contextlib.suppress(EgressError):
            source = ClipSource(ClipPart(container, Stitched.whole(file)))
            try:
                assert source.duration_ns is not None and source.reorders is not None
                end_ns(source)
            finally:
                source.close()
        with contextlib.suppress(Mp4Error):
            window = FragmentWindow(file)
            window.open(0, window.end_ns).seek(0, io.SEEK_END)


@target
def tracks_clip(data: bytes) -> None:
    """The same of a file of all tracks. The first byte says what it is, the second where the clip begins."""
    if len(data) < 3:
        return
    container, begin_ns = TRACK_CONTAINERS[data[0] % len(TRACK_CONTAINERS)], data[1] * MS
    file = _Bytes(data[2:])
    with recovery_memory(), contextlib.suppress(EgressError):
        tracks = tracks_of(container, file)
        if tracks is not None:
            sink = _Nowhere()
            with contextlib.suppress(FFmpegError):
                cut_tracks(tracks, container, Span(begin_ns, begin_ns + 300 * MS), sink, lambda: False)


class _Nowhere(io.BytesIO):
    """A ClipSink."""

    def rewrite(self, offset: int, data: bytes) -> None:
        self.getbuffer()[offset : offset + len(data)] = data


@target
def resumed_file(data: bytes) -> None:
    """Of fragments, which another process goes on with."""
    with in_file(data, "recording.mp4") as path:
        end = fragment_end.end_of(path)
        if end is not None:
            assert end.size_bytes <= len(data) and end.end_ns is not None


@target
def data_track(data: bytes) -> None:
    """What participants send by data tracks: packets, one after another."""
    frames = DataFrames()
    for payload in pieces(data):
        if (packet := parse_data_track(payload)) is not None:
            frames.take(packet)
