"""Has the kernel limit the memory of a page's processes, if a cgroup is delegated to us.

In cgroup v2 (Linux, Documentation/admin-guide/cgroup-v2.rst), a group whose children have controllers holds
no processes itself. So the service moves into a child of the group that it was given, and each browser gets
another child. Without delegation (`Delegate=memory` of systemd, a container that may write its cgroup) pages
are only watched.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

LEAF = "openegress"
"""Name of the service's own group."""
_PAGE = "page-"
_DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes with which systemd marks a delegated group (systemd, docs/CGROUP_DELEGATION.md)."""


class NotDelegated(Exception):
    """No cgroup is delegated to us; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The mounted cgroup tree, and our group in it."""

    root: Path = Path("/sys/fs/cgroup")
    own: Path = Path("/proc/self/cgroup")

    def base(self) -> Path:
        """The parent of the pages' groups. Raises NotDelegated."""
        if not (self.root / "cgroup.controllers").exists():
            raise NotDelegated("this machine has no cgroup v2")
        lines = self.own.read_text().splitlines()
        path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
        if path is None or ".." in Path(path).parts:
            raise NotDelegated("the service's cgroup cannot be seen from here")
        ours = self.root / path
        if path and (ours.name == LEAF or _is_delegated(ours.parent)):
            ours = ours.parent
        elif path and not _is_delegated(ours):
            raise NotDelegated("its cgroup is not delegated to the service (systemd: Delegate=memory)")
        if "memory" not in _words(ours / "cgroup.controllers"):
            raise NotDelegated("the memory controller is not delegated (systemd: Delegate=memory)")
        if not all(os.access(each, os.W_OK) for each in (ours, ours / "cgroup.subtree_control")):
            raise NotDelegated(f"{ours} is not writable")
        return ours


def prepare(tree: Tree = Tree()) -> Path:
    """Prepares the tree. A service calls it once, before it starts other processes. Raises NotDelegated if
    pages can only be watched; nothing has changed then."""
    base = tree.base()
    moved: list[str] = []
    try:
        for left in base.glob(f"{_PAGE}*"):
            with contextlib.suppress(OSError):  # of a page that runs
                left.rmdir()
        if "memory" in _words(base / "cgroup.subtree_control"):
            return base
        leaf = base / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in _words(base / "cgroup.procs"):
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
                moved.append(pid)
        (base / "cgroup.subtree_control").write_text("+memory")
    except OSError as error:
        for pid in moved:
            with contextlib.suppress(OSError):
                (base / "cgroup.procs").write_text(pid)
        raise NotDelegated(f"{base}: {error.strerror or error}") from None
    return base


class PageCgroup:
    """The group of one browser."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def make(cls, name: str, tree: Tree = Tree()) -> "PageCgroup | None":
        """Makes a group. Returns None if that is impossible: the page is then only watched."""
        try:
            base = tree.base()
            if "memory" not in _words(base / "cgroup.subtree_control"):
                return None
            folder = base / f"{_PAGE}{name}"
            folder.mkdir()
        except (NotDelegated, OSError):
            return None
        return cls(folder)

    def take(self, pids: set[int]) -> None:
        """Moves processes into the group. Processes that they start later join it too."""
        for pid in pids:
            with contextlib.suppress(OSError):  # gone meanwhile; processes outside the group are watched
                (self._folder / "cgroup.procs").write_text(str(pid))

    def limit(self, most_bytes: int) -> None:
        """Sets the limit. Beyond it, the kernel kills all processes of the group at once, and no others."""
        for name, value in (
            ("memory.oom.group", "1"),
            ("memory.swap.max", "0"),
            ("memory.max", str(most_bytes)),
        ):
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                (self._folder / name).write_text(value)

    @property
    def ran_out(self) -> bool:
        """Whether the kernel killed the group for its memory."""
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in (self._folder / "memory.events").read_text().splitlines())
            return int(counts.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> None:
        """Removes the group; call it when its processes are gone. Idempotent."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _is_delegated(folder: Path) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
