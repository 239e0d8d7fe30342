"""Decides which paths of local storages a handler may write to, by its plan and the names that it claimed.

Its first claim counts, which it makes before it decodes anything. An attacker who controls the handler later
cannot give the recording another name.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from openegress.core import ipc
from openegress.core.clip_plan import ClipPlan
from openegress.core.errors import EgressError
from openegress.core.plan import FileOutput, ImageOutput, Output, Plan, SegmentOutput
from openegress.core.storages import LocalStorage
from openegress.request import naming, places
from openegress.request.own_names import OwnNames
from openegress.storage.journal import Journal
from openegress.storage.local import parts_below
from openegress.storage.uploader import join
from openegress.worker.local_puts import Permit

OnNames = Callable[[Plan, ipc.ClaimNames], Awaitable[str]]
"""Claims the paths of the plan's names once they are known. Returns the suffix that makes its names unique.
Raises EgressError."""

SealOf = Callable[[bytes], str]
"""Returns the seal of something that a handler keeps in its journal; "": no later process needs it."""

_NAMES = b"names of "
"""No plan begins in this way, so that neither has the seal of the other."""


class RecordingPermits:
    """The paths of a recording: those of its names, where it replaces what is there."""

    def __init__(self, plan: Plan, claim_names: OnNames | None, seal: SealOf) -> None:
        """Without `claim_names`, every claim succeeds."""
        self._plan = plan
        self._claim_names = claim_names
        self._seal = seal
        self._has_open_names = places.has_open_names(plan)
        self._values: dict[str, str] | None = None
        """Values that only the room knew, once they are settled."""
        self._names: OwnNames | None = None

    def begin(self) -> None:
        """A handler begins the recording: it has to claim its names. Its journal settles none."""
        self._values, self._names = {}, None

    async def claim(self, told: ipc.ClaimNames) -> ipc.NamesClaimed:
        """Claims names, and permits them if they are the first. Never raises an EgressError."""
        try:
            mark = await self._claim_names(self._plan, told) if self._claim_names is not None else ""
            if not self._values:
                self._values = {**told.values, naming.MARK: mark}
            return ipc.NamesClaimed(mark, self._sealed(self._values))
        except EgressError as error:
            return ipc.NamesClaimed(code=error.code.value, error=error.message)

    def permit(self, asked: ipc.PutFile, folder: Path) -> Permit | None:
        if self._names is None:
            self._names = OwnNames(self._plan, self._settled(folder))
        for number, output in enumerate(self._plan.outputs):
            for storage, path in _own_paths(output, asked):
                if self._names.have(number, path):
                    return Permit(storage, replaces=True)
        return None

    def _settled(self, folder: Path) -> dict[str, str]:
        """The values of names. If an earlier process of this worker began the recording, they are those in
        the journal, as far as that process has sealed them."""
        if not self._has_open_names:
            return {}
        if self._values is not None:
            return self._values
        try:
            names = Journal.load(folder, mends=False).names
        except (EgressError, ValueError):
            return {}
        seal, noted = self._sealed(names), names.get(naming.SEAL, "")
        is_ours = hmac.compare_digest(seal.encode(), noted.encode(errors="replace"))
        return names if seal and is_ours else {}

    def _sealed(self, values: Mapping[str, str]) -> str:
        """The seal of all values in the journal."""
        values = {naming.MARK: "", **self._plan.name_values, **values}
        values.pop(naming.SEAL, None)
        return self._seal(_NAMES + msgspec.json.encode((self._plan.egress_id, sorted(values.items()))))


class ClipPermits:
    """The path of a clip: the one that was claimed, in the folder of its target, unless a file is there."""

    def __init__(self, plan: ClipPlan) -> None:
        self._target = plan.target
        self._claimed: str | None = None

    def claimed(self, path: str) -> None:
        if self._claimed is None:
            self._claimed = path

    def permit(self, asked: ipc.PutFile, folder: Path) -> Permit | None:
        for storage, path in _own_paths(self._target, asked):
            if path == self._claimed and self._is_in_its_folder(storage, path):
                return Permit(storage, replaces=False)
        return None

    def _is_in_its_folder(self, storage: LocalStorage, path: str) -> bool:
        root, known = Path(storage.root).absolute(), naming.known_folder(self._target.filepath)
        try:
            own, names = parts_below(root, f"{known}clip")[:-1], parts_below(root, path)[:-1]
        except EgressError:
            return False
        return names[: len(own)] == own


def _own_paths(output: Output, asked: ipc.PutFile) -> Iterator[tuple[LocalStorage, str]]:
    """Yields the local storages of the output that `asked` may mean, with the paths without their prefix."""
    if not isinstance(output, FileOutput | SegmentOutput | ImageOutput):
        return
    plan = output.storage
    for backend, prefix in ((plan.backend, plan.prefix), (plan.backup, plan.backup_prefix)):
        if isinstance(backend, LocalStorage) and backend.root == asked.root:
            without = asked.path.removeprefix(join(prefix, "")) if prefix else asked.path
            for path in (without, f"/{without}") if prefix else (without,):
                if join(prefix, path) == asked.path:
                    yield backend, path
