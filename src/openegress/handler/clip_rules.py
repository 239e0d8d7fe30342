"""Lists what the handler of a clip may read: the files that the clip is cut from, in whichever storage."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from openegress.core.clip_plan import ClipPlan
from openegress.core.errors import EgressError
from openegress.core.storages import LocalStorage
from openegress.handler.landlock import READ, Access, PathRule
from openegress.storage.local import parts_below
from openegress.storage.uploader import join


def clip_rules(plan: ClipPlan) -> Iterator[PathRule]:
    """Yields the rules for files in the spool, in local storages and in their backups."""
    if plan.left_in:
        yield PathRule(Path(plan.left_in), READ)
    storage = plan.recorded.storage
    for backend, prefix in (
        (storage.backend, storage.prefix),
        (storage.backup, storage.backup_prefix),
    ):
        if isinstance(backend, LocalStorage):
            root = Path(backend.root).absolute()
            for path, folder_access in _sources(plan):
                with contextlib.suppress(EgressError):  # it leads outside the root: nothing is read there
                    *folders, name = parts_below(root, join(prefix, path))
                    yield PathRule(root.joinpath(*folders), folder_access)
                    yield PathRule(root.joinpath(*folders, name), READ)


def _sources(plan: ClipPlan) -> Iterator[tuple[str, Access]]:
    """Yields paths in the storage, and the access to their folders. A storage opens the folder of a file. A
    playlist names its segments only once it is read."""
    for part in plan.stored:
        yield part.path, Access.READ_DIR
    if plan.playlist:
        yield plan.playlist, READ
