"""Writes a file that grows in the spool, in its writer's thread."""

from collections.abc import Callable
from pathlib import Path

from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clusters import ClusterWriter
from openegress.media.fragment_end import FragmentsEnd
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.interleave import end_ns
from openegress.media.matroska import MatroskaWriter
from openegress.media.mcap import McapWriter
from openegress.media.mp4_tracks import Mp4TracksWriter
from openegress.media.muxer import Muxer, check_fit
from openegress.output import Opening
from openegress.output.spool_file import SpoolFile, disk_error

PROGRESS_NS = S
"""Interval of FileUpdates during the recording."""

_PAGE_US = 250_000
"""Length of a page in OGG. The muxer holds back its last complete page, so a kill costs two."""
_OPTIONS: dict[Container, dict[str, str]] = {
    Container.OGG: {"page_duration": str(_PAGE_US), "flush_packets": "1"},
    Container.MP3: {"flush_packets": "1"},
}


_Muxing = Muxer | FragmentWriter | ClusterWriter | MatroskaWriter | Mp4TracksWriter | McapWriter


class FileJob:
    """The job (output.writer.Writing) of writing one file."""

    def __init__(
        self,
        path: Path,
        container: Container,
        opening: Opening,
        on_progress: Callable[[], None],
        behind: FragmentsEnd | None,
    ) -> None:
        self._path = path
        self._container = container
        self._formats = opening.formats
        self._on_progress = on_progress
        self._file: SpoolFile | None = None
        self._started_at_ns = opening.started_at_ns
        self._muxer: _Muxing | None = None
        self._behind = behind
        self.media_end_ns = behind.end_ns if behind is not None else 0
        """End of the last written frame."""
        self._next_progress_ns = self.media_end_ns + PROGRESS_NS
        self.is_empty = behind is None
        """Whether no packet has reached the muxer."""

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes if self._file else 0

    def open(self) -> None:
        kept_bytes = self._behind.size_bytes if self._behind is not None else 0
        self._file = SpoolFile(self._path, keep_bytes=kept_bytes)
        try:
            self._muxer = self._muxer_for(self._file)
            self._muxer.open()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error

    def write(self, packet: Packet) -> None:
        assert self._muxer is not None
        self.is_empty = False
        try:
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self.media_end_ns = max(self.media_end_ns, end_ns(packet))
        if self.media_end_ns >= self._next_progress_ns:
            self._next_progress_ns = self.media_end_ns + PROGRESS_NS
            self._on_progress()

    def rest(self) -> None:
        assert self._muxer is not None
        try:
            self._muxer.flush()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error

    def close(self) -> None:
        assert self._muxer is not None and self._file is not None
        try:
            self._muxer.close()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self._file.release()

    def abort(self, error: EgressError) -> None:
        """Closes properly if the disk still takes bytes, and otherwise leaves the fragments unchanged."""
        try:
            if self._muxer is not None and self._file is not None and self._file.error is None:
                self._muxer.close()
        except (FFmpegError, OSError) as again:
            error.add_note(f"and while closing: {again}")
        finally:
            if self._file is not None:
                self._file.seal()
            if self._muxer is not None:
                self._muxer.abandon()
            if self._file is not None:
                self._file.release()

    def _muxer_for(self, file: SpoolFile) -> _Muxing:
        """Returns a muxer in which no track waits for another."""
        check_fit(self._container, self._formats)
        match self._container:
            case Container.MP4 if not self._formats:
                return Mp4TracksWriter(file.write, file.rewrite)
            case Container.MP4:
                header = file_header(self._formats)
                return FragmentWriter(file.write, self._formats, header=header, behind=self._behind)
            case Container.WEBM:
                return ClusterWriter(file.write, self._formats, file.rewrite)
            case Container.MKV | Container.MKA:
                return MatroskaWriter(file.write, file.rewrite, self._started_at_ns)
            case Container.MCAP:
                return McapWriter(file.write, self._started_at_ns)
            case _:
                return Muxer(file, self._container, self._formats, _OPTIONS[self._container])

    def _explain(self, error: FFmpegError | OSError) -> EgressError:
        cause = self._file.error if self._file is not None else None
        if cause is not None:
            return disk_error(cause, self._path)
        return internal(f"the {self._container.value} muxer failed: {error}", Phase.RECORDING)
