"""Encodes a picture as JPEG."""

from fractions import Fraction

import av
from av.video.reformatter import ColorRange, Colorspace

_QUALITY = 3
"""Quality on FFmpeg's scale for MJPEG: 2 is best, 31 worst; 3 shows no blocks on text."""


def full_range(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """Converts a frame to the form that jpeg() takes."""
    return frame.reformat(
        width=width,
        height=height,
        format="yuvj420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU601,  # as JFIF requires
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )


def jpeg(picture: av.VideoFrame, quality: int = _QUALITY) -> bytes:
    """Encodes a full-range BT.601 picture (yuvj420p) as a JPEG file. Raises FFmpegError."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuvj420p"
    context.time_base = Fraction(1, 1)
    picture.pts = 0
    context.options = {"qmin": str(quality), "qmax": str(quality)}
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))
