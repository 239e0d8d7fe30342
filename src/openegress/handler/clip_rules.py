"""Lists what the handler of a clip may read: the files that the clip is cut from, in whichever storage."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from openegress.core.clip_plan import ClipPlan
from openegress.core.errors import EgressError
from openegress.core.storages import LocalStorage
from openegress.handler.landlock import READ, PathRule
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
            for path in (part.path for part in plan.stored):
                yield from _rule(root, join(prefix, path), is_playlist=False)
            if plan.playlist:
                yield from _rule(root, join(prefix, plan.playlist), is_playlist=True)


def _rule(root: Path, path: str, *, is_playlist: bool) -> Iterator[PathRule]:
    """A playlist names its segments only once it is read, so its folder is granted."""
    with contextlib.suppress(EgressError):  # it leads outside the root: nothing is read there
        *folders, name = parts_below(root, path)
        yield PathRule(root.joinpath(*folders, *(() if is_playlist else (name,))), READ)
