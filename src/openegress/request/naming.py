"""Makes file names of everything an egress stores: templates, default names, extensions, directories.

Names are filled in two steps. The validated request fills what is known then (time, room). Placeholders that
only the room can fill ({track_type} ...) stay in the name until the handler calls `fill` again.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import Enum
from typing import Literal

from openegress.core.errors import invalid
from openegress.core.storages import LocalStorage
from openegress.core.units import S
from openegress.request.name_length import mark_of

KNOWN_EXTENSIONS = (".raw", ".ogg", ".mp3", ".ivf", ".mp4", ".ts", ".webm", ".m3u8", ".jpeg", ".m4s")
"""Extensions that are replaced when another container is recorded; anything else is part of the name."""

_MANY_TRACKS = (".mkv", ".mka", ".mcap")
"""Extensions that count only if their container is wanted; otherwise they are part of the name, as in
upstream."""

PLAYLIST_EXTENSION = ".m3u8"
IMAGE_EXTENSION = ".jpeg"
MANIFEST_EXTENSION = ".json"

MAX_CHARS = 8192
"""Limit for a path in a request. No storage takes half of it (request.name_length). Filling the placeholders
of a quarter of a megabyte would block others."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ROUND = str.maketrans("{}", "()")


def time_values(now_ns: int, zone: tzinfo) -> dict[str, str]:
    """{time} in the server's zone and {utc} in UTC with milliseconds, for the same moment."""
    return {"time": _local_time(now_ns, zone), "utc": timestamp(now_ns)}


def timestamp(at_ns: int) -> str:
    """Formats a time as yyyymmddHHMMSSmmm in UTC, as in the names of segments and images."""
    moment = datetime.fromtimestamp(at_ns // S, UTC)
    return f"{moment:%Y%m%d%H%M%S}{at_ns // 1_000_000 % 1000:03d}"


def _local_time(at_ns: int, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(at_ns // S, zone):%Y-%m-%dT%H%M%S}"


def clean(path: str) -> str:
    """The shortest path with the same meaning, never above its start. A trailing "/" marks a directory and
    stays. "" if nothing is left. Raises EgressError invalid_argument for a path that is longer than
    MAX_CHARS or has control characters."""
    if len(path) > MAX_CHARS:
        raise invalid(
            f"request has missing or invalid field: a path of {len(path)} characters; "
            f"at most {MAX_CHARS} can be stored"
        )
    if control := _CONTROL.search(path):
        raise invalid(
            f"request has missing or invalid field: a path with the control character U+{ord(control[0]):04X}"
        )
    is_directory = path.endswith("/")
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        return "/" if rooted else ""
    return ("/" if rooted else "") + "/".join(parts) + ("/" if is_directory else "")


def fill(path: str, values: Mapping[str, str]) -> str:
    """Replaces {placeholders} by their `values`; unknown ones stay verbatim.

    A value may hold "/" (a room named "a/b" makes a directory) but can never climb: its own "." and ".."
    parts are dropped, and so is a part of the result that the values turned into one. It can be no template
    either, which the second step would fill: "{" becomes "(". A value that loses something is followed by a
    hash, so that rooms named ".." and "." are not recorded to one file.
    """

    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            return match[0]
        kept = _literal(_harmless(value))
        return kept if kept == value else kept + mark_of(value)

    rooted, is_directory = path.startswith("/"), path.endswith("/")
    inner = _harmless(_PLACEHOLDER.sub(value_of, path))
    if not inner:
        return "/" if rooted else ""
    return ("/" if rooted else "") + inner + ("/" if is_directory else "")


MARK = "-distinct"
"""The key, among the values of names, of the suffix of each name. No placeholder can have this name."""

SEAL = "-seal"
"""The key, among the values of names, of their seal."""


def fill_late(path: str, values: Mapping[str, str], mark: str) -> str:
    """Like `fill`, for values that only the room knows, with `mark` appended to the name."""
    return fill(distinct(path, mark), values)


def _harmless(text: str) -> str:
    parts = _CONTROL.sub("", text).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _literal(value: str) -> str:
    """`value` without placeholders."""
    return value.translate(_ROUND) if "{" in value else value


def name(template: str, values: Mapping[str, str]) -> str:
    """A request's path, cleaned, and filled with the values that are known."""
    return fill(clean(template), values)


def split(path: str) -> tuple[str, str]:
    """Splits a path into its directory (with its "/", or "") and the rest."""
    head, slash, tail = path.rpartition("/")
    return head + slash, tail


def known_folder(path: str) -> str:
    """The folder before the first placeholder, with its "/"; "" if there is none."""
    return split(path.partition("{")[0])[0]


def without_extension(path: str, known: Iterable[str] = KNOWN_EXTENSIONS) -> str:
    """`path` without a known extension: v1.2 stays v1.2."""
    for extension in known:
        if path.lower().endswith(extension) and split(path)[1].lower() != extension:
            return path[: -len(extension)]
    return path


def known_extension(path: str) -> str:
    """The extension of `path` that says what kind of file it is, in lower case; "": it has none."""
    ending = posixpath.splitext(path)[1].lower()
    return ending if ending in (*KNOWN_EXTENSIONS, *_MANY_TRACKS) else ""


def sidecar_stem(path: str, extension: str) -> str:
    """The beginning of the names of sidecars beside the file `path`, which will end in `extension`."""
    named = with_extension(path, extension)
    return named.removesuffix(extension)


def with_extension(path: str, extension: str) -> str:
    """`path` ending in `extension` (with its dot). That extension is kept, another known one is replaced, and
    otherwise it is appended."""
    if path.endswith(extension):
        return path
    known = (*KNOWN_EXTENSIONS, *_MANY_TRACKS) if extension in _MANY_TRACKS else KNOWN_EXTENSIONS
    return without_extension(path, known) + extension


PART = "{part}"
"""Where the number of a part goes in the path of a split file. Without it, it goes at the end of the name."""


def distinct(path: str, mark: str) -> str:
    """`path` with -<mark> after its name, before its extension. An empty mark changes nothing."""
    if not mark:
        return path
    stem = without_extension(path, (*KNOWN_EXTENSIONS, *_MANY_TRACKS))
    return f"{stem}-{mark}{path[len(stem) :]}"


def default_name(identifier: str, values: Mapping[str, str]) -> str:
    """<identifier>-<time>, as one path part; a second attempt ends in its number."""
    retry = "-{retry}" if "retry" in values else ""
    printable = _literal(_CONTROL.sub("", identifier))
    mark = "" if printable == identifier else mark_of(identifier)
    return fill(f"{printable.replace('/', '_')}{mark}-{{time}}{retry}", values)


class Distinct(Enum):
    """Which names contain the egress' id, because another recording writes to them without it."""

    NONE = "none"
    UNNAMED = "unnamed"
    """Names that the request leaves to the server."""
    ALL = "all"


def is_own(template: str) -> bool:
    """Whether a request leaves the name to the server."""
    cleaned = clean(template)
    return not cleaned or cleaned.endswith("/")


def file_path(
    template: str, identifier: str, values: Mapping[str, str], extension: str, mark: str = ""
) -> str:
    """Storage path of a file output. An empty `extension` is decided later by the track's codec."""
    path = name(template, values)
    if not path or path.endswith("/"):
        path += default_name(identifier, values)
    path = distinct(path, mark)
    return with_extension(path, extension) if extension else path


@dataclass(frozen=True, slots=True)
class SegmentNames:
    directory: str
    """The directory: "" or ending in "/"."""
    prefix: str
    """Prefix of segments, which may itself hold a directory below `directory`."""
    playlist: str
    live_playlist: str
    """Name of the live playlist; empty: there is none."""


def segment_names(
    prefix: str,
    playlist: str,
    live_playlist: str,
    identifier: str,
    values: Mapping[str, str],
    mark: str = "",
) -> SegmentNames:
    """Names of a segmented output. Playlist and segments share a directory.

    Raises EgressError invalid_argument if the live playlist is the playlist, or lies elsewhere.
    """
    prefix_dir, prefix_name = split(name(prefix, values))
    playlist_dir, playlist_name = split(name(playlist, values))
    live_dir, live_name = split(name(live_playlist, values))

    directory = playlist_dir or prefix_dir
    if prefix_dir.startswith(directory):
        prefix_dir = prefix_dir[len(directory) :]
    if prefix_dir.startswith("/"):
        raise invalid(
            "request has missing or invalid field: filename_prefix must be in same directory as playlist_name"
        )
    playlist_name = without_extension(playlist_name) or prefix_name or default_name(identifier, values)
    playlist_name = without_extension(playlist_name)
    if live_playlist and not live_name:
        raise invalid(
            "request has missing or invalid field: "
            f"live_playlist_name ({live_playlist[:64]!r} names a folder, and no file)"
        )
    live_name = without_extension(live_name)
    if live_name and live_dir not in ("", directory):
        raise invalid(
            "request has missing or invalid field: "
            "live_playlist_name must be in same directory as playlist_name"
        )
    if live_name == playlist_name:
        raise invalid(
            "request has missing or invalid field: live_playlist_name cannot be identical to playlist_name"
        )
    return SegmentNames(
        directory=directory,
        prefix=prefix_dir + distinct(prefix_name or playlist_name, mark),
        playlist=distinct(playlist_name, mark) + PLAYLIST_EXTENSION,
        live_playlist=distinct(live_name, mark) + PLAYLIST_EXTENSION if live_name else "",
    )


def segment_file(prefix: str, index: int, start_ns: int, by_timestamp: bool, extension: str) -> str:
    """<prefix>_<5-digit index> or <prefix>_<timestamp of its first frame, unix ns>, plus `extension`."""
    return f"{prefix}_{timestamp(start_ns) if by_timestamp else f'{index:05d}'}{extension}"


def init_file(prefix: str, number: int) -> str:
    """The initialisation segment `number` of fMP4: there is one more for each format that differs."""
    return f"{prefix}_init{f'_{number}' if number else ''}.mp4"


def image_names(prefix: str, identifier: str, values: Mapping[str, str], mark: str = "") -> tuple[str, str]:
    """The directory and the prefix of an image output."""
    directory, prefix_name = split(name(prefix, values))
    return directory, distinct(prefix_name or default_name(identifier, values), mark)


_MANY = 99_999
"""Number with the longest name of a segment or picture, in a recording of days."""


def longest_of_segments(names: SegmentNames, extension: str, by_timestamp: bool) -> tuple[str, ...]:
    """The longest paths that a segmented output writes."""
    return tuple(
        names.directory + file
        for file in (
            segment_file(names.prefix, _MANY, 0, by_timestamp, extension),
            init_file(names.prefix, 99),
            names.playlist,
            names.live_playlist,
        )
        if file
    )


def longest_of_images(
    directory: str, prefix: str, suffix: Literal["index", "timestamp", "none"]
) -> tuple[str, ...]:
    return (directory + image_file(prefix, _MANY, 0, suffix),)


def image_file(prefix: str, index: int, taken_ns: int, suffix: Literal["index", "timestamp", "none"]) -> str:
    """The name of one image; with "none", each one overwrites the last."""
    match suffix:
        case "index":
            return f"{prefix}_{index:05d}{IMAGE_EXTENSION}"
        case "timestamp":
            return f"{prefix}_{timestamp(taken_ns)}{IMAGE_EXTENSION}"
        case "none":
            return f"{prefix}{IMAGE_EXTENSION}"


def manifest_path(directory: str, egress_id: str) -> str:
    """The path of the manifest of an output, in the same folder."""
    return f"{directory}{egress_id}{MANIFEST_EXTENSION}"


def local_path(path: str, storage: LocalStorage, field: str = "filepath") -> str:
    """`path` of a request for local storage. Relative paths are below its root, and absolute ones must be.
    The path is returned as it is: joined to the root, an absolute path stays absolute. Raises EgressError
    invalid_argument if it lies outside, or in one of the private places."""
    root = posixpath.normpath(storage.root)
    full = posixpath.normpath(posixpath.join(root, path))
    if full != root and not full.startswith(root.rstrip("/") + "/"):
        raise invalid(
            f"{field} {path!r} lies outside the server's {storage.setting}, {root}: "
            "give a relative path, or an absolute one below it"
        )
    if is_private(full, storage.private):
        raise invalid(f"{field} {path!r} lies in a folder of the server's own; give another path")
    return path


def is_private(full: str, private: Iterable[str]) -> bool:
    """Whether an absolute path is one of these places, or below one."""
    return any(full == place or full.startswith(f"{place.rstrip('/')}/") for place in private)


def storage_key(path: str) -> str:
    """`path` in the form of an object store, whose keys have no root."""
    return path.lstrip("/")
