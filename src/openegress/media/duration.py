"""Measures how long a media file plays, from its packets rather than its header."""

from pathlib import Path

import av
from av.error import FFmpegError

from openegress.core.units import S
from openegress.media import mcap_index

_MCAP = ".mcap"
"""Extension of files that FFmpeg cannot read."""


def span_ns(path: Path) -> tuple[int, int]:
    """Returns (first time, end of the last packet); (0, 0) if nothing can be read. Reads the whole file."""
    start_ns: int | None = None
    end_ns = 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            for packet in container.demux():
                if packet.pts is None or packet.time_base is None:
                    continue
                at_ns = int(packet.pts * packet.time_base * S)
                start_ns = at_ns if start_ns is None else min(start_ns, at_ns)
                end_ns = max(end_ns, at_ns + int((packet.duration or 0) * packet.time_base * S))
    except FFmpegError:
        pass  # the file is read up to where it is damaged
    return start_ns or 0, end_ns


def holds_media(path: Path) -> bool:
    """Whether the file has a packet that can be read."""
    if path.suffix == _MCAP:
        return mcap_index.span(path).has_media
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return any(packet.size for packet in container.demux())
    except FFmpegError:
        return False


def has_video(path: Path) -> bool:
    """Whether the file has video. Raises FFmpegError if it cannot be read."""
    if path.suffix == _MCAP:
        return mcap_index.span(path).has_video
    with av.open(str(path), metadata_errors="replace") as container:
        return bool(container.streams.video)


def duration_ns(path: Path) -> int:
    """Duration from 0 to the end of the last packet; 0 if nothing can be read."""
    if path.suffix == _MCAP:
        return mcap_index.span(path).duration_ns
    return span_ns(path)[1]
