"""Converts between Pillow's pictures (RGB) and a recording's (yuv420p, limited-range BT.709)."""

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from openegress.media.canvas import PIXEL_FORMAT


def to_yuv(image: Image.Image) -> VideoFrame:
    """Converts an RGB picture of even size to yuv420p, BT.709 limited range."""
    frame = av.VideoFrame(image.width, image.height, "rgb24")
    plane = frame.planes[0]
    rows, stride = image.tobytes(), 3 * image.width
    plane.update(
        rows
        if plane.line_size == stride
        else b"".join(
            rows[at : at + stride].ljust(plane.line_size, b"\0") for at in range(0, len(rows), stride)
        )
    )
    return frame.reformat(
        format=PIXEL_FORMAT,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def to_rgb(picture: VideoFrame) -> Image.Image:
    """Converts a picture of a recording, whatever its colour tags say."""
    converted = picture.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return Image.fromarray(converted.to_ndarray())
