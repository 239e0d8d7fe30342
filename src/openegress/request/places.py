"""Finds where the outputs of a plan write, so that no two running recordings write to one path."""

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from openegress.core.codecs import TRACK_CONTAINER, Container
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.ipc import ClaimNames
from openegress.core.main_output import first_stored
from openegress.core.plan import FileOutput, ImageOutput, Output, Plan, SegmentOutput
from openegress.core.sidecars import ENDINGS
from openegress.core.stems import StemFormat
from openegress.core.storages import LocalStorage, NamedStorage, StoragePlan
from openegress.request import naming
from openegress.request.bucket import bucket_of
from openegress.request.outputs import LONGEST_EXTENSION

_NUMBER, _TIME, _LATER, _VOICE = "\x01", "\x02", "\x03", "\x04"
"""Characters in a place that stand for the part in which its many names differ. No name has these
characters."""
_STANDS_FOR = {
    # The numbers of naming and part_names, up to those of a recording of months. A date such as 20261130 is
    # not one of them.
    _NUMBER: "(?:0[0-9]{4}|[1-9][0-9]{4,5})",
    _TIME: "[0-9]{17}",
    _LATER: "[1-9][0-9]?",
    _VOICE: "[^/]+",
}
_FOUND = {
    _NUMBER: re.compile(f"(?<![0-9]){_STANDS_FOR[_NUMBER]}(?![0-9])"),
    _TIME: re.compile(rf"(?<=_){_STANDS_FOR[_TIME]}(?=\.jpeg\Z)"),
    _LATER: re.compile(rf"(?<=_init_){_STANDS_FOR[_LATER]}(?=\.mp4\Z)"),
    _VOICE: re.compile(rf"(?<=\.){_STANDS_FOR[_VOICE]}(?=\.(?:{'|'.join(StemFormat)})\Z)"),
}
"""Patterns that find such a part in a single name."""
_MANY = re.compile(f"([{''.join(_STANDS_FOR)}])")


IsFolding = Callable[[str], bool]
"""Returns whether names in a local folder that differ only in case are the same."""


def _never(folder: str) -> bool:
    return False


def places_of(plan: Plan, machine: str, is_folding: IsFolding = _never) -> frozenset[str]:
    """A text for each path or prefix that the plan writes; equal texts are the same place. `machine`
    distinguishes local disks. Placeholders that only the room fills stay as they are, together with the track
    that will fill them."""
    whose = _whose(plan)
    return frozenset(
        f"{place}|{whose}" if "{" in place else place for place in _all(plan, machine, is_folding)
    )


def place_of_clip(storage: StoragePlan, path: str, machine: str, is_folding: IsFolding = _never) -> str:
    """The place of a clip, like those of places_of()."""
    return _place(storage, path, machine, is_folding)


def shared(one: Collection[str], other: Collection[str]) -> str | None:
    """A place that both have, or a name of one that is a part, segment, picture or voice of the other; None:
    they are apart."""
    found = [*set(one).intersection(other), *_among(one, other), *_among(other, one)]
    return min(found, default=None)


def around(places: Iterable[str]) -> frozenset[str]:
    """The places that stand for many names, one of these `places` among them: another recording may have such
    a place. A number counts only if no digit is next to it."""
    return frozenset(around for place in places for around in _around(place))


def _around(place: str) -> Iterator[str]:
    if "{" in place:
        return
    path = len("|".join(place.split("|", 2)[:2]))
    for many, pattern in _FOUND.items():
        at = path
        while found := pattern.search(place, at):
            yield f"{place[: found.start()]}{many}{place[found.end() :]}"
            at = found.start() + 1  # each dot of a name may be the one before an identity


def _among(places: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yields those of `names` that one of `places` stands for."""
    for each in places:
        head, *rest = _MANY.split(each)
        alike = [name for name in names if name != each and name.startswith(head)] if rest else []
        if alike:  # rare; each start compares with all recordings, and patterns take long to compile
            pattern = "".join(_STANDS_FOR.get(part) or re.escape(part) for part in (head, *rest))
            yield from filter(re.compile(pattern).fullmatch, alike)


def check_apart(plan: Plan, is_folding: IsFolding = _never) -> None:
    """Raises EgressError invalid_argument if two outputs of the plan write to the same path, or one needs a
    folder where another one writes a file."""
    counted = Counter(_all(plan, "", is_folding))
    twice = [place for place, count in counted.items() if count > 1]
    if place := min([*twice, *_among(counted, counted)], default=None):
        raise invalid(f"two outputs of the request write to the same path, {_shown(place)}")
    on_disk = [place for place in counted if local_path(place) is not None]
    for place in on_disk:
        if any(other.startswith(f"{place}/") for other in on_disk):
            raise invalid(f"one output is the file {_shown(place)}, and another needs a folder there")


def has_open_names(plan: Plan) -> bool:
    """Whether only the room knows where the plan writes."""
    return any("{" in name for _, name in _names(plan))


def filled(plan: Plan, told: ClaimNames, mark: str) -> Plan:
    """The plan with the final names, which are filled with the values of the room, and end in `mark`. Names
    are not cut, so that equal ones stay equal and different ones different."""
    outputs = tuple(_filled(output, told, mark) for output in plan.outputs)
    return msgspec.structs.replace(plan, outputs=outputs)


def _filled(output: Output, told: ClaimNames, mark: str) -> Output:
    match output:
        case FileOutput():
            container = output.container or told.container
            return msgspec.structs.replace(filled_file(output, told.values, mark), container=container)
        case SegmentOutput():
            return filled_segments(output, told.values, mark)
        case ImageOutput():
            return filled_images(output, told.values, mark)
        case _:
            return output


def filled_file(output: FileOutput, values: Mapping[str, str], mark: str) -> FileOutput:
    return msgspec.structs.replace(output, filepath=naming.fill_late(output.filepath, values, mark))


def filled_segments(output: SegmentOutput, values: Mapping[str, str], mark: str) -> SegmentOutput:
    live = output.live_playlist
    return msgspec.structs.replace(
        output,
        directory=naming.fill(output.directory, values),
        prefix=naming.fill_late(output.prefix, values, mark),
        playlist=naming.fill_late(output.playlist, values, mark),
        live_playlist=naming.fill_late(live, values, mark) if live else "",
    )


def filled_images(output: ImageOutput, values: Mapping[str, str], mark: str) -> ImageOutput:
    return msgspec.structs.replace(
        output,
        directory=naming.fill(output.directory, values),
        prefix=naming.fill_late(output.prefix, values, mark),
    )


def _all(plan: Plan, machine: str, is_folding: IsFolding) -> Iterator[str]:
    for storage, name in _names(plan):
        yield _place(storage, name, machine, is_folding)
        if (backup := _backup_of_disk(storage)) is not None:
            yield _place(backup, name, machine, is_folding)


def _backup_of_disk(storage: StoragePlan) -> StoragePlan | None:
    """The backup of a local disk, if it is none itself: the disks of several machines may have one backup."""
    if not isinstance(storage.backend, LocalStorage) or not isinstance(storage.backup, NamedStorage):
        return None
    return StoragePlan(storage.backup, storage.backup_prefix)


def _names(plan: Plan) -> Iterator[tuple[StoragePlan, str]]:
    for output in plan.outputs:
        match output:
            case FileOutput():
                for name in _possible(output, resumes=plan.resumes):
                    yield output.storage, name
            case SegmentOutput():
                many = f"{output.prefix}_{_NUMBER}.{output.container.value}"
                for name in (output.playlist, output.live_playlist, many):
                    if name:
                        yield output.storage, output.directory + name
                if output.container is Container.FMP4:
                    first = output.directory + naming.init_file(output.prefix, 0)
                    yield output.storage, first
                    yield output.storage, first.replace("_init", f"_init_{_LATER}")
            case ImageOutput():
                many = _SUFFIXES[output.suffix]
                name = f"{output.directory}{output.prefix}{many}{naming.IMAGE_EXTENSION}"
                yield output.storage, name
                if output.sheet is not None:
                    yield output.storage, f"{output.directory}{output.prefix}.vtt"
            case _:
                pass
    yield from _beside(plan)


def _beside(plan: Plan) -> Iterator[tuple[StoragePlan, str]]:
    """Yields where sidecars and stems go, as far as names are known."""
    first = first_stored(plan)
    if first is None:
        return
    output = first[1]
    if isinstance(output, FileOutput):
        extension = f".{output.container.value}" if output.container else LONGEST_EXTENSION
        stem = _of_parts(output, naming.sidecar_stem(output.filepath, extension))
    else:
        stem = output.directory + naming.sidecar_stem(output.playlist, naming.PLAYLIST_EXTENSION)
    for sidecar in plan.sidecars:
        yield from ((output.storage, stem + ending) for ending in ENDINGS[sidecar])
    if plan.stems is not None:
        yield output.storage, f"{stem}.{_VOICE}.{plan.stems.value}"


def _possible(output: FileOutput, *, resumes: bool) -> Iterator[str]:
    """Yields the names that a file may get: there are several if a track decides the container."""
    containers = (output.container,) if output.container else sorted(set(TRACK_CONTAINER.values()))
    for container in containers:
        extension = f".{container.value}"
        path = naming.with_extension(output.filepath, extension)
        yield _of_parts(output, path)
        is_split = output.split is not None and naming.PART not in path
        if is_split or (output.split is None and resumes):
            yield f"{path.removesuffix(extension)}-{_NUMBER}{extension}"


def _of_parts(output: FileOutput, path: str) -> str:
    """The place of a split file, whatever the number of a part."""
    return path if output.split is None else path.replace(naming.PART, _NUMBER)


def taken(place: str) -> EgressError:
    """The refusal of a recording whose place is taken."""
    return EgressError(
        Code.ALREADY_EXISTS,
        f"another recording is writing to {_shown(place)}: give another path, put {{time}} in it, or "
        "set same_path: suffix in the server's configuration",
    )


def _place(storage: StoragePlan, path: str, machine: str, is_folding: IsFolding) -> str:
    backend = storage.backend
    if isinstance(backend, LocalStorage):
        root = posixpath.normpath(backend.root)
        full = posixpath.normpath(posixpath.join(root, storage.prefix, path))
        if is_folding(naming.known_folder(full)):
            full = root + _folded(full.removeprefix(root))
        return f"local|{machine}|{full}"
    prefix = f"{storage.prefix.strip('/')}/" if storage.prefix else ""
    key = "/".join(part for part in f"{prefix}{path}".split("/") if part not in ("", "."))
    return f"{bucket_of(backend)}|{key}"


def _folded(text: str) -> str:
    """A text that is the same for names that a file system without case considers the same."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def local_path(place: str) -> str | None:
    """The path of a place on this machine's disks, including what distinguishes open names; None: the place
    is elsewhere."""
    kind, _, rest = place.partition("|")
    return rest.partition("|")[2] if kind == "local" else None


_SUFFIXES = {"index": f"_{_NUMBER}", "timestamp": f"_{_TIME}", "none": ""}
"""Endings of the names of pictures."""


def _shown(place: str) -> str:
    return repr(_MANY.sub("*", place.split("|", 3)[2]))


def _whose(plan: Plan) -> str:
    """The track that fills the remaining placeholders, if there is one, with its room."""
    return f"{plan.room_name}/{plan.name_values.get('track_id', plan.egress_id)}"
