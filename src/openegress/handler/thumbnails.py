"""Sends a small picture of the recording now and then, for the dashboard."""

import logging
from collections.abc import Callable

import av
from av.error import FFmpegError

from openegress.core.events import Thumbnail
from openegress.core.units import S
from openegress.output.images.jpeg import full_range, jpeg

_log = logging.getLogger(__name__)

EVERY_NS = 10 * S
"""Interval of thumbnails in media time. A picture takes some milliseconds of the encoding thread."""
WIDTH = 480
"""Width of a thumbnail: large enough to recognise a face."""
_QUALITY = 10
"""JPEG quality on FFmpeg's scale: about 12 KiB for a picture."""


class Thumbnails:
    """Takes raw frames (media.FrameSink) and sends one every ten seconds, beginning with the first."""

    def __init__(self, send: Callable[[Thumbnail], None]) -> None:
        self._send = send
        self._next_ns = 0

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        if pts_ns < self._next_ns:
            return
        self._next_ns = pts_ns + EVERY_NS
        width = min(WIDTH, frame.width)
        height = max(2, round(frame.height * width / frame.width / 2) * 2)
        try:
            self._send(Thumbnail(jpeg(full_range(frame, width, height), _QUALITY)))
        except FFmpegError as error:
            # The recording matters more than its picture on the dashboard.
            _log.warning("no thumbnail: %s", error)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Does nothing, because sound makes no thumbnail."""

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """Does nothing, because a thumbnail has no time."""
