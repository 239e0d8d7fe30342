"""The kernel's ceiling for a page's memory, on a folder that has the files of cgroup v2."""

import os
from pathlib import Path
from typing import Any

import pytest

from openegress.source.web import page_cgroup
from openegress.source.web.page_cgroup import LEAF, NotDelegated, PageCgroup, Tree, prepare


class Fake:
    """/sys/fs/cgroup with one group of ours in it, and no kernel: tests look at what is written."""

    def __init__(self, folder: Path, ours: str = "system.slice/openegress.service") -> None:
        self.root = folder / "cgroup"
        self.group = self.root / ours
        self.group.mkdir(parents=True)
        (self.root / "cgroup.controllers").write_text("cpu memory pids\n")
        for name, text in (("controllers", "memory\n"), ("procs", "41\n42\n"), ("subtree_control", "")):
            (self.group / f"cgroup.{name}").write_text(text)
        self.own = folder / "own"
        self.is_in(ours)

    def is_in(self, group: str) -> None:
        self.own.write_text(f"4:cpu:/elsewhere\n0::/{group}\n")

    @property
    def tree(self) -> Tree:
        return Tree(self.root, self.own)


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Folders that systemd has marked."""
    marked: set[str] = set()

    def getxattr(path: Any, name: str) -> bytes:
        if str(path) in marked and name == "user.delegate":
            return b"1"
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "getxattr", getxattr)
    return marked


@pytest.fixture
def fake(tmp_path: Path, delegated: set[str]) -> Fake:
    fake = Fake(tmp_path)
    delegated.add(str(fake.group))
    return fake


def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(file, what was written into it), of files that take one thing after another."""
    written: list[tuple[str, str]] = []
    write = Path.write_text

    def noted(self: Path, text: str, *args: Any, **named: Any) -> int:
        written.append((f"{self.parent.name}/{self.name}", text))
        return write(self, text, *args, **named)

    monkeypatch.setattr(Path, "write_text", noted)
    return written


def test_the_service_moves_aside_before_its_group_has_controllers(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = moves(monkeypatch)
    assert prepare(fake.tree) == fake.group
    assert written == [
        (f"{LEAF}/cgroup.procs", "41"),
        (f"{LEAF}/cgroup.procs", "42"),
        ("openegress.service/cgroup.subtree_control", "+memory"),
    ]


def prepared(fake: Fake) -> None:
    """As it is after that: the service is in its leaf."""
    prepare(fake.tree)
    (fake.group / "cgroup.subtree_control").write_text("memory\n")
    fake.is_in(f"{fake.group.relative_to(fake.root)}/{LEAF}")


def test_a_browser_gets_a_group_beside_the_services(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(fake)
    cgroup = PageCgroup.make("77", fake.tree)
    assert cgroup is not None
    folder = fake.group / "page-77"
    written = moves(monkeypatch)
    cgroup.take({77})
    cgroup.limit(2**30)
    assert written == [
        ("page-77/cgroup.procs", "77"),
        ("page-77/memory.oom.group", "1"),
        ("page-77/memory.swap.max", "0"),
        ("page-77/memory.max", str(2**30)),
    ]
    assert not cgroup.ran_out
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    assert not cgroup.ran_out
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 6\noom_group_kill 1\n")
    assert cgroup.ran_out


def test_a_group_goes_with_its_browser_and_what_was_left_at_the_next_start(fake: Fake) -> None:
    prepared(fake)
    cgroup = PageCgroup.make("77", fake.tree)
    assert cgroup is not None
    cgroup.remove()
    cgroup.remove()
    assert not list(fake.group.glob("page-*"))
    PageCgroup.make("78", fake.tree)
    (fake.group / "page-79").mkdir()
    (fake.group / "page-79" / "of a page that runs").touch()
    prepare(fake.tree)
    assert [each.name for each in fake.group.glob("page-*")] == ["page-79"]


def test_systemds_own_subgroup_needs_no_move(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """DelegateSubgroup= has put the service below what is delegated."""
    fake.is_in(f"{fake.group.relative_to(fake.root)}/main")
    (fake.group / "cgroup.procs").write_text("")
    written = moves(monkeypatch)
    assert prepare(fake.tree) == fake.group
    assert written == [("openegress.service/cgroup.subtree_control", "+memory")]


def test_a_container_has_its_own_root(tmp_path: Path, delegated: set[str]) -> None:
    fake = Fake(tmp_path, ".")
    fake.own.write_text("0::/\n")
    (fake.root / "cgroup.controllers").write_text("cpu memory\n")
    assert prepare(fake.tree) == fake.root
    assert (fake.root / LEAF / "cgroup.procs").exists()


def test_what_is_not_ours_is_left_alone(tmp_path: Path, delegated: set[str]) -> None:
    """Root may write to any group; that does not make it the service's."""
    fake = Fake(tmp_path)
    before = sorted(fake.root.rglob("*"))
    with pytest.raises(NotDelegated, match="Delegate=memory"):
        prepare(fake.tree)
    assert PageCgroup.make("77", fake.tree) is None
    assert sorted(fake.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("spoil", "lacking"),
    [
        (lambda fake: (fake.root / "cgroup.controllers").unlink(), "no cgroup v2"),
        (lambda fake: fake.own.write_text("4:memory:/x\n"), "cannot be seen"),
        (lambda fake: fake.own.write_text("0::/../../outside\n"), "cannot be seen"),
        (lambda fake: (fake.group / "cgroup.controllers").write_text("pids"), "memory controller"),
    ],
)
def test_where_there_is_none(fake: Fake, spoil: Any, lacking: str) -> None:
    spoil(fake)
    with pytest.raises(NotDelegated, match=lacking):
        prepare(fake.tree)
    assert PageCgroup.make("77", fake.tree) is None


def test_a_kernel_that_refuses_leaves_all_as_it_was(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    written = moves(monkeypatch)
    write = Path.write_text

    def busy(self: Path, text: str, *args: Any, **named: Any) -> int:
        if self.name == "cgroup.subtree_control":
            raise OSError(16, "Device or resource busy")
        return write(self, text, *args, **named)

    monkeypatch.setattr(Path, "write_text", busy)
    with pytest.raises(NotDelegated, match="Device or resource busy"):
        prepare(fake.tree)
    assert written[-2:] == [("openegress.service/cgroup.procs", pid) for pid in ("41", "42")]


def test_before_the_service_has_prepared_there_is_none(fake: Fake) -> None:
    assert PageCgroup.make("77", fake.tree) is None
    assert page_cgroup.LEAF == "openegress"
