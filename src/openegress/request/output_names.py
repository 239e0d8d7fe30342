"""Names what outputs store, once the values of the room are known. Pure."""

from collections.abc import Mapping

from openegress.core import plan
from openegress.core.codecs import Container
from openegress.core.errors import EgressError
from openegress.request import naming, places
from openegress.request.name_length import Cut, fitted, limit_of, squeezed
from openegress.request.naming import SegmentNames
from openegress.request.outputs import LONGEST_EXTENSION
from openegress.request.part_names import LONGEST_NUMBER, beside_parts


def file_name(output: plan.FileOutput, values: Mapping[str, str]) -> str:
    """Returns the path of a file, without its extension if the track chooses the container."""
    extension = f".{output.container.value}" if output.container else LONGEST_EXTENSION
    if output.split is not None:
        extension = LONGEST_NUMBER + extension

    limit = limit_of(output.storage)
    mark = values.get(naming.MARK, "")

    def made(cut: Cut) -> str:
        return places.filled_file(output, cut.values(values), mark).filepath

    try:
        return fitted(made, lambda path: (naming.with_extension(path, extension),), limit, "filepath")
    except EgressError:
        # These values were unknown when the request was checked: a name that is too long is cut now, not
        # refused.
        return squeezed(made(Cut()), limit, len(extension))


def sidecar_stem(output: plan.FileOutput | plan.SegmentOutput, values: Mapping[str, str]) -> str:
    """Returns the beginning of the names of sidecars: they are beside the file or the playlist, and named
    after it. In a split file whose path says where the number goes, they are named after the first part."""
    if isinstance(output, plan.FileOutput):
        extension = f".{output.container.value}" if output.container else LONGEST_EXTENSION
        return beside_parts(output, naming.sidecar_stem(file_name(output, values), extension))
    names = segment_names(output, values)
    return names.directory + naming.sidecar_stem(names.playlist, naming.PLAYLIST_EXTENSION)


def sidecar_name(output: plan.FileOutput | plan.SegmentOutput, values: Mapping[str, str], ending: str) -> str:
    """Returns the path of a sidecar whose name ends in `ending`."""
    return with_ending(output, sidecar_stem(output, values), ending)


def with_ending(output: plan.FileOutput | plan.SegmentOutput, stem: str, ending: str) -> str:
    """Returns `stem` with `ending`, cut to what the storage takes."""
    return squeezed(stem, limit_of(output.storage), len(ending)) + ending


def segment_names(output: plan.SegmentOutput, values: Mapping[str, str]) -> SegmentNames:
    """Returns the paths of segments and playlists."""
    extension = f".{output.container.value}"

    def made(cut: Cut) -> SegmentNames:
        filled = places.filled_segments(output, cut.values(values), values.get(naming.MARK, ""))
        return SegmentNames(filled.directory, filled.prefix, filled.playlist, filled.live_playlist)

    limit = limit_of(output.storage)
    try:
        return fitted(
            made,
            lambda names: naming.longest_of_segments(names, extension, output.timestamp_suffix),
            limit,
            "filename_prefix",
        )
    except EgressError:
        whole = made(Cut())
        ending_bytes = len(naming.segment_file("", 0, 0, True, extension))
        return SegmentNames(
            directory=squeezed(whole.directory, limit, 0),
            prefix=squeezed(whole.prefix, limit, ending_bytes),
            playlist=squeezed(whole.playlist.removesuffix(naming.PLAYLIST_EXTENSION), limit, ending_bytes)
            + naming.PLAYLIST_EXTENSION,
            live_playlist=squeezed(
                whole.live_playlist.removesuffix(naming.PLAYLIST_EXTENSION), limit, ending_bytes
            )
            + naming.PLAYLIST_EXTENSION
            if whole.live_playlist
            else "",
        )


def image_names(output: plan.ImageOutput, values: Mapping[str, str]) -> tuple[str, str]:
    """Returns (directory, prefix) of pictures."""

    def made(cut: Cut) -> tuple[str, str]:
        filled = places.filled_images(output, cut.values(values), values.get(naming.MARK, ""))
        return filled.directory, filled.prefix

    limit = limit_of(output.storage)
    try:
        return fitted(
            made,
            lambda names: naming.longest_of_images(*names, output.suffix),
            limit,
            "filename_prefix",
        )
    except EgressError:
        directory, prefix = made(Cut())
        ending_bytes = len(naming.image_file("", 0, 0, "timestamp"))
        return squeezed(directory, limit, 0), squeezed(prefix, limit, ending_bytes)


def chapters_name(filename: str) -> str:
    """Returns the path of the chapters of the file that is stored as `filename`. Files whose names differ
    only in their extension may be recorded at the same time, so that only an MP4 leaves its extension out."""
    stem = filename.removesuffix(f".{Container.MP4.value}")
    return f"{filename if naming.known_extension(stem) else stem}.chapters.vtt"


def superseded_name(filename: str, egress_id: str, output: plan.FileOutput) -> str:
    """Returns the path of a file of which a newer recording has the name: no other recording uses it."""
    stem, dot, extension = filename.rpartition(".")
    return with_ending(output, stem, f"-{egress_id}{dot}{extension}")


def tracks_name(
    output: plan.FileOutput | plan.SegmentOutput | plan.ImageOutput, values: Mapping[str, str]
) -> str:
    """Returns the path of the tracks of a recording that could not be composed."""
    ending = f".{Container.MKV.value}"
    if isinstance(output, plan.FileOutput | plan.SegmentOutput):
        return sidecar_name(output, values, ending)
    return f"{output.directory}{output.prefix}{ending}"


def manifest_name(output: plan.Output, name: str, values: Mapping[str, str]) -> str | None:
    """Returns the path of the manifest `name`; None: the output has none."""
    match output:
        case plan.FileOutput():
            directory = naming.split(beside_parts(output, file_name(output, values)))[0]
        case plan.SegmentOutput():
            directory = segment_names(output, values).directory
        case plan.ImageOutput():
            directory = image_names(output, values)[0]
        case _:
            return None
    return naming.manifest_path(directory, name) if output.manifest else None
