"""The folders of local storages that a recording writes to: within `output_root`, only those its paths
need."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openegress.core.errors import EgressError
from openegress.core.plan import FileOutput, ImageOutput, Output, SegmentOutput
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.request import naming
from openegress.storage.local import LocalFolder, parts_below
from openegress.storage.uploader import join


@dataclass(frozen=True, slots=True)
class OwnFolder:
    storage: LocalStorage
    names: tuple[str, ...]
    """Names of the folders below the storage's root."""

    @property
    def path(self) -> Path:
        return Path(self.storage.root).absolute().joinpath(*self.names)

    def make(self) -> None:
        """Makes the folder. Raises OSError."""
        LocalFolder(self.storage).make_folder(self.names)


def own_folders(outputs: Sequence[Output]) -> Iterator[OwnFolder]:
    """Yields the folders of each output and its backup. If only the room knows some names of a path, this is
    the folder before the first of them."""
    for output in outputs:
        for storage, path in _paths(output):
            for backend, prefix in (
                (storage.backend, storage.prefix),
                (storage.backup, storage.backup_prefix),
            ):
                if isinstance(backend, LocalStorage):
                    with contextlib.suppress(EgressError):  # it leads outside the root: no upload goes there
                        yield OwnFolder(backend, _names(backend, join(prefix, path)))


def _paths(output: Output) -> Iterator[tuple[StoragePlan, str]]:
    match output:
        case FileOutput():
            yield output.storage, output.filepath
        case SegmentOutput():
            for name in (output.playlist, output.live_playlist or output.playlist, output.prefix):
                yield output.storage, output.directory + name
        case ImageOutput():
            yield output.storage, output.directory + output.prefix
        case _:
            pass


def _names(backend: LocalStorage, path: str) -> tuple[str, ...]:
    return parts_below(Path(backend.root).absolute(), f"{naming.known_folder(path)}file")[:-1]
