"""Decides where the thumbnails of a recording go. Pure."""

from collections.abc import Sequence

from openegress.core.plan import FileOutput, ImageOutput, Output, SegmentOutput, Sheet, TracksFile
from openegress.request import naming

THUMBNAIL_WIDTH = 160
_NAME = "-storyboard"


def beside(outputs: Sequence[Output], interval_s: int) -> ImageOutput | None:
    """A storyboard beside the first stored output, and named after it; None: no output is stored."""
    stored = (each for each in outputs if isinstance(each, FileOutput | SegmentOutput | ImageOutput))
    first = next((each for each in stored if not isinstance(each, TracksFile)), None)
    match first:
        case FileOutput():
            extension = f".{first.container.value}" if first.container else ""
            path = naming.with_extension(first.filepath, extension) if extension else first.filepath
            directory, name = naming.split(path.removesuffix(extension).replace(naming.PART, ""))
        case SegmentOutput():
            directory = first.directory
            name = first.playlist.removesuffix(naming.PLAYLIST_EXTENSION)
        case ImageOutput():
            directory, name = first.directory, first.prefix
        case _:
            return None
    return ImageOutput(
        directory=directory,
        prefix=name + _NAME,
        interval_s=interval_s,
        width=THUMBNAIL_WIDTH,
        height=0,
        suffix="index",
        storage=first.storage,
        manifest=False,
        sheet=Sheet(),
    )
