"""Where the outputs of a plan write, so that no two running recordings write to one path."""

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from openegress.core.beside import first_stored
from openegress.core.codecs import TRACK_CONTAINER, Container
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.ipc import ClaimNames
from openegress.core.plan import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    FileOutput,
    GCPStorage,
    ImageOutput,
    LocalStorage,
    Output,
    Plan,
    S3Storage,
    SegmentOutput,
    StoragePlan,
)
from openegress.core.sidecars import ENDINGS
from openegress.request import naming
from openegress.request.outputs import LONGEST_EXTENSION

_NUMBER = r"(\d{5,8}|\d{17})"
"""Of a part, segment or picture, or its time, as output.naming has them."""


def places_of(plan: Plan, machine: str) -> frozenset[str]:
    """A text for each path or prefix that the plan writes; equal texts are the same place. `machine`
    distinguishes local disks. Placeholders that only the room fills stay as they are, together with the track
    that will fill them."""
    whose = _whose(plan)
    return frozenset(f"{place}|{whose}" if "{" in place else place for place in _all(plan, machine))


def places_of_clip(storage: StoragePlan, path: str, machine: str) -> frozenset[str]:
    """As places_of(), including those of split files, whose parts may get such a name."""
    numbers = re.finditer(r"\d{5,}", path)
    whole = re.sub(r"-\d{5,}(?=\.\w+$)", "", path)
    paths = [path, whole, *(f"{path[: each.start()]}*{path[each.end() :]}" for each in numbers)]
    return frozenset(_place(storage, each, machine) for each in paths)


def shared(one: Collection[str], other: Collection[str]) -> str | None:
    """A place of both, or of one that has the name of a part, segment, picture or voice of the other; None:
    they are apart."""
    found = [*set(one).intersection(other), *_numbered(one, other), *_numbered(other, one)]
    return min(found, default=None)


def _numbered(places: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Of `names`, those that one of `places` may stand for."""
    for each in places:
        head, star, _ = each.partition("*")
        alike = [name for name in names if name != each and name.startswith(head)] if star else []
        if alike:  # hardly ever, and each start compares with all that runs: patterns take long to compile
            whole = re.escape(each).replace(r"\.\*\.", r"\.[^/]+\.").replace(r"\*", _NUMBER)
            yield from filter(re.compile(whole).fullmatch, alike)


def check_apart(plan: Plan) -> None:
    """Raises EgressError invalid_argument where two outputs of the plan write to the same path."""
    counted = Counter(_all(plan, ""))
    twice = [place for place, count in counted.items() if count > 1]
    if place := min([*twice, *_numbered(counted, counted)], default=None):
        raise invalid(f"two outputs of the request write to the same path, {_shown(place)}")


def has_open_names(plan: Plan) -> bool:
    """Whether only the room knows where the plan writes."""
    return any("{" in place for place in _all(plan, ""))


def filled(plan: Plan, told: ClaimNames, mark: str) -> Plan:
    """The plan with the final names: filled with the values of the room, and with `mark` appended to each.
    Names are not cut, which keeps equal ones equal and different ones different."""
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


def _all(plan: Plan, machine: str) -> Iterator[str]:
    for output in plan.outputs:
        match output:
            case FileOutput():
                for name in _possible(output):
                    yield _place(output.storage, name, machine)
            case SegmentOutput():
                for name in (output.playlist, output.live_playlist, f"{output.prefix}_*"):
                    if name:
                        yield _place(output.storage, output.directory + name, machine)
                if output.container is Container.FMP4:
                    name = output.directory + naming.init_file(output.prefix, 0)
                    yield _place(output.storage, name, machine)
            case ImageOutput():
                many = "" if output.suffix == "none" else "_*"
                name = f"{output.directory}{output.prefix}{many}{naming.IMAGE_EXTENSION}"
                yield _place(output.storage, name, machine)
                if output.sheet is not None:
                    yield _place(output.storage, f"{output.directory}{output.prefix}.vtt", machine)
            case _:
                pass
    for storage, name in _beside(plan):
        yield _place(storage, name, machine)


def _beside(plan: Plan) -> Iterator[tuple[StoragePlan, str]]:
    """Where sidecars and stems go, as far as names are known."""
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
        yield output.storage, f"{stem}.*.{plan.stems.value}"


def _possible(output: FileOutput) -> Iterator[str]:
    """The names that a file may get: there are several if a track decides the container."""
    containers = (output.container,) if output.container else sorted(set(TRACK_CONTAINER.values()))
    for container in containers:
        extension = f".{container.value}"
        path = naming.with_extension(output.filepath, extension)
        yield _of_parts(output, path)
        if output.split is not None and naming.PART not in path:
            yield f"{path.removesuffix(extension)}-*{extension}"


def _of_parts(output: FileOutput, path: str) -> str:
    """The place of a split file, whatever the number of a part."""
    return path if output.split is None else path.replace(naming.PART, "*")


def taken(place: str) -> EgressError:
    """The refusal of a recording whose place is taken."""
    return EgressError(
        Code.ALREADY_EXISTS,
        f"another recording is writing to {_shown(place)}: give another path, put {{time}} in it, or "
        "set same_path: suffix in the server's configuration",
    )


def _place(storage: StoragePlan, path: str, machine: str) -> str:
    backend = storage.backend
    if isinstance(backend, LocalStorage):
        full = posixpath.normpath(posixpath.join(backend.root, storage.prefix, path))
        return f"local|{machine}|{full}"
    prefix = f"{storage.prefix.strip('/')}/" if storage.prefix else ""
    key = "/".join(part for part in f"{prefix}{path}".split("/") if part not in ("", "."))
    return f"{_bucket(backend)}|{key}"


def local_path(place: str) -> str | None:
    """The path of a place on this machine's disks, including what distinguishes open names; None: it is
    elsewhere."""
    kind, _, rest = place.partition("|")
    return rest.partition("|")[2] if kind == "local" else None


def _bucket(backend: Backend) -> str:
    match backend:
        case S3Storage() | AliOSSStorage():
            kind = "s3" if isinstance(backend, S3Storage) else "alioss"
            return f"{kind}|{_service(backend.endpoint, backend.bucket)}/{backend.bucket}"
        case GCPStorage():
            return f"gcp|{backend.bucket}"
        case AzureStorage():
            return f"azure|{_service(backend.endpoint) or backend.account_name}/{backend.container}"
        case LocalStorage():
            return "local"


_CLOUDS = (".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com")
"""A bucket's name belongs to one bucket, whatever the endpoint there."""


def _service(endpoint: str, bucket: str = "") -> str:
    """The same for each spelling of an endpoint; "" for a cloud's own."""
    scheme, found, rest = endpoint.lower().rpartition("://")
    host = rest.rstrip("/")
    if not found or scheme == "https":
        host = host.removesuffix(":443")
    elif scheme == "http":
        host = host.removesuffix(":80")
    return "" if host.endswith(_CLOUDS) else host.removeprefix(f"{bucket.lower()}.")


def _shown(place: str) -> str:
    return repr(place.rsplit("|", 1)[-1])


def _whose(plan: Plan) -> str:
    """What fills the remaining placeholders: the track, if there is one, and the room."""
    return f"{plan.room_name}/{plan.name_values.get('track_id', plan.egress_id)}"
