"""Decides whether a path is one that an output of a plan writes, in a local storage. Pure.

A handler, which an attacker may control, gives the path. The names are made once, and each path is compared
with them, so that this takes little time whatever the path is.
"""

import re
from collections.abc import Iterator, Mapping

from openegress.core.codecs import TRACK_CONTAINER, Container
from openegress.core.main_output import first_stored
from openegress.core.plan import FileOutput, ImageOutput, Output, Plan, SegmentOutput
from openegress.core.sidecars import ENDINGS
from openegress.request import naming, output_names
from openegress.request.output_names import chapters_name, superseded_name, with_ending
from openegress.request.part_names import stored_name

_MAX_CHARS, _MAX_NAME_CHARS = 4096, 255
"""Limits of Linux for a path, and for a name."""
_INDEX, _TIME = "[0-9]{5,6}", "[0-9]{17}"
_SUFFIX = {"index": f"_{_INDEX}", "timestamp": f"_{_TIME}", "none": ""}
"""Patterns for what follows the prefix of a picture."""
_JPEG = re.escape(naming.IMAGE_EXTENSION)
_NUMBER = re.compile(_INDEX)
_NUMBER_AT_END = re.compile(f"-({_INDEX})(?=[.-])")
_LAST = 3
"""How many numbers of a name are tried, from its end. At most the id of the egress follows that of a part."""
_FILE_CONTAINERS = (*sorted(set(TRACK_CONTAINER.values())), Container.MP4, Container.WEBM)
"""Containers of a file whose track decides."""


class OwnNames:
    """The names of one plan."""

    def __init__(self, plan: Plan, values: Mapping[str, str]) -> None:
        """`values` are those that only the room knew, with naming.MARK."""
        self._egress_id = plan.egress_id
        values = {**plan.name_values, **values}
        mark = f"-{plan.part.mark}" if plan.part is not None else ""
        manifest = plan.egress_id + mark
        self._outputs = [_OutputNames(each, manifest, values) for each in plan.outputs]
        self._stem: tuple[int, FileOutput | SegmentOutput, str, str] | None = None
        """The output that stems lie beside, the beginning of their names, and their extension."""
        first = first_stored(plan)
        if first is None:
            return
        number, output = first
        stem = output_names.sidecar_stem(output, values)
        self._outputs[number].exact |= {
            with_ending(output, stem, ending) for sidecar in plan.sidecars for ending in ENDINGS[sidecar]
        }
        if plan.stems is not None:
            self._stem = number, output, stem, f".{plan.stems.value}"

    def have(self, number: int, path: str) -> bool:
        """Whether the plan's output `number` writes to `path`, without the prefix of its storage."""
        if len(path) > _MAX_CHARS or any(len(name) > _MAX_NAME_CHARS for name in path.split("/")):
            return False
        return self._outputs[number].have(path, self._egress_id) or self._is_stem(number, path)

    def _is_stem(self, number: int, path: str) -> bool:
        """Whether an identity and the extension follow the name of the recording."""
        if self._stem is None or self._stem[0] != number or not path.endswith(self._stem[3]):
            return False
        _, output, stem, extension = self._stem
        name = naming.split(path)[1]
        dots = [at for at, char in enumerate(name.removesuffix(extension)) if char == "."]
        return any(path == with_ending(output, stem, name[at:]) for at in dots)


class _OutputNames:
    """The names of one output, without sidecars and stems."""

    def __init__(self, output: Output, manifest: str, values: Mapping[str, str]) -> None:
        self._file: tuple[FileOutput, str] | None = None
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        """Beginnings of names, and patterns for the rest."""
        self.exact = {output_names.manifest_name(output, manifest, values)} - {None}
        match output:
            case FileOutput():
                self._file = output, output_names.file_name(output, values)
            case SegmentOutput():
                names = output_names.segment_names(output, values)
                self.exact.add(names.directory + names.playlist)
                if names.live_playlist:
                    self.exact.add(names.directory + names.live_playlist)
                suffix = _TIME if output.timestamp_suffix else _INDEX
                made = rf"_(?:{suffix}\.{output.container.value}|init(?:_[0-9]+)?\.mp4)"
                self._patterns.append((names.directory + names.prefix, re.compile(made)))
            case ImageOutput():
                prefix = "".join(output_names.image_names(output, values))
                suffix = _SUFFIX[output.suffix] + _JPEG
                if output.sheet is not None:
                    suffix = rf"(?:_{_INDEX}{_JPEG}|\.vtt)"
                self._patterns.append((prefix, re.compile(suffix)))
            case _:
                return
        self.exact.add(output_names.tracks_name(output, values))

    def have(self, path: str, egress_id: str) -> bool:
        if path in self.exact:
            return True
        for prefix, pattern in self._patterns:
            if path.startswith(prefix) and pattern.fullmatch(path, len(prefix)):
                return True
        return self._file is not None and path in _files(*self._file, path, egress_id)


def _files(output: FileOutput, name: str, path: str, egress_id: str) -> Iterator[str]:
    """Yields the names that parts with the numbers in `path` would have, those of their chapters, and those
    that a recovery uses if a newer recording has the name."""
    for container in (output.container,) if output.container else _FILE_CONTAINERS:
        whole = naming.with_extension(name, f".{container.value}")
        for part in (0, *_parts(output, whole, path)):
            stored = stored_name(output, part, whole)
            for each in (stored, superseded_name(stored, egress_id, output)):
                yield each
                yield chapters_name(each)


def _parts(output: FileOutput, name: str, path: str) -> Iterator[int]:
    if output.split is None or naming.PART not in name:
        found = _NUMBER_AT_END.findall(path)[-_LAST:]
    else:
        number = _NUMBER.match(path, name.index(naming.PART))
        # The name may continue with a digit.
        found = [number[0], number[0][:5]] if number else []
    yield from (int(each) - 1 for each in found if int(each))
