"""Files that a handler asks its worker to put into local storages: what it gets, and what an attacker in it
does not."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from openegress.core import ipc
from openegress.core.clip_plan import ClipPlan
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.plan import FileOutput, Plan, WebSource
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.handler.name_claim import NameClaim
from openegress.handler.recording_journal import RecordingJournal
from openegress.request import naming
from openegress.storage.local import COPIED_BELOW_BYTES
from openegress.worker.local_puts import LocalPuts, Permits
from openegress.worker.put_permits import ClipPermits, RecordingPermits

LARGE = COPIED_BELOW_BYTES


def sealed(data: bytes) -> str:
    return hashlib.sha256(b"a key" + data).hexdigest()


class Put:
    """What a worker does for a handler of egress EG_1, whose folder in the spool is `own`."""

    def __init__(self, folder: Path, path: str = "a.mp4", prefix: str = "") -> None:
        self.own, self.out = folder / "spool" / "EG_1", folder / "out"
        self.own.mkdir(parents=True)
        self.out.mkdir()
        self.storage = StoragePlan(LocalStorage(str(self.out)), prefix=prefix)
        output = FileOutput(path, Container.MP4, self.storage)
        self.plan = Plan("EG_1", WebSource("http://a"), (output,), None, None)
        self.recording = RecordingPermits(self.plan, None, sealed)
        self.permits: Permits = self.recording
        self.puts = LocalPuts("EG_1", self.permits)

    def spooled(self, size_bytes: int = 4, name: str = "recording.mp4") -> Path:
        path = self.own / name
        path.write_bytes(b"mine" + bytes(size_bytes - 4))
        return path

    def begin(self, path: str, local: str = "recording.mp4", root: str = "") -> "asyncio.Future[ipc.FilePut]":
        answer: asyncio.Future[ipc.FilePut] = asyncio.get_running_loop().create_future()
        asked = ipc.PutFile(7, local, root or str(self.out), path)
        self.puts.begin(asked, self.own, answer.set_result)
        return answer

    async def ask(self, path: str, local: str = "recording.mp4", root: str = "") -> ipc.FilePut:
        return await self.begin(path, local, root)

    def stored(self) -> dict[str, bytes]:
        return {
            str(each.relative_to(self.out)): each.read_bytes()[:4]
            for each in self.out.rglob("*")
            if each.is_file()
        }


@pytest.mark.parametrize("size_bytes", [4, LARGE], ids=["copied", "linked"])
async def test_a_file_comes_into_its_place_and_replaces_what_was_there(
    tmp_path: Path, size_bytes: int
) -> None:
    put = Put(tmp_path, "calls/a.mp4")
    (put.out / "calls").mkdir()
    (put.out / "calls/a.mp4").write_bytes(b"old")
    recorded = put.spooled(size_bytes)
    assert await put.ask("calls/a.mp4") == ipc.FilePut(7)
    stored = put.out / "calls/a.mp4"
    assert stored.read_bytes() == recorded.read_bytes()
    assert stored.samefile(recorded) is (size_bytes == LARGE)
    assert put.stored() == {"calls/a.mp4": b"mine"}


async def test_the_prefix_of_the_storage_is_no_part_of_the_name(tmp_path: Path) -> None:
    for number, (path, whole) in enumerate([("a.mp4", "p/a.mp4"), ("/a.mp4", "p/a.mp4")]):
        put = Put(tmp_path / str(number), path, "p/")
        put.spooled()
        assert (await put.ask(whole)).code == ""
        assert (await put.ask("a.mp4")).code == Code.PERMISSION_DENIED
        assert put.stored() == {"p/a.mp4": b"mine"}


async def test_a_backup_is_a_place_too(tmp_path: Path) -> None:
    put = Put(tmp_path)
    spare = tmp_path / "spare"
    storage = StoragePlan(S3Storage("b"), backup=LocalStorage(str(spare)), backup_prefix="late")
    output = FileOutput("a.mp4", Container.MP4, storage)
    plan = Plan("EG_1", WebSource("http://a"), (output,), None, None)
    put.puts = LocalPuts("EG_1", RecordingPermits(plan, None, sealed))
    put.spooled()
    assert (await put.ask("late/a.mp4", root=str(spare))).code == ""
    assert (spare / "late/a.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "path",
    ["theirs.mp4", "calls/theirs.mp4", "../spool/EG_2/a", "/etc/a", "a.mp4/..", "a.mp4\0", "x/../a.mp4"],
)
async def test_another_recordings_file_is_neither_replaced_nor_made(tmp_path: Path, path: str) -> None:
    put = Put(tmp_path)
    (put.out / "calls").mkdir()
    theirs = dict.fromkeys(("theirs.mp4", "calls/theirs.mp4"), b"good")
    for name, data in theirs.items():
        (put.out / name).write_bytes(data)
    put.spooled()
    assert (await put.ask(path)).code == Code.PERMISSION_DENIED
    assert put.stored() == theirs


async def test_no_other_folder_is_written_to(tmp_path: Path) -> None:
    put = Put(tmp_path)
    put.spooled()
    for root in (tmp_path, tmp_path / "other"):
        assert (await put.ask("a.mp4", root=str(root))).code == Code.PERMISSION_DENIED
    assert not (tmp_path / "a.mp4").exists() and not (tmp_path / "other").exists()


def a_link(put: Put) -> None:
    (put.own / "recording.mp4").symlink_to(put.own.parent / "EG_2" / "recording.mp4")


def a_linked_folder(put: Put) -> None:
    (put.own / "deep").symlink_to(put.own.parent / "EG_2")


def a_pipe(put: Put) -> None:
    os.mkfifo(put.own / "recording.mp4")


def nothing(put: Put) -> None:
    """Makes no file."""


@pytest.mark.parametrize(
    ("made", "local"),
    [
        (a_link, "recording.mp4"),
        (a_linked_folder, "deep/recording.mp4"),
        (a_pipe, "recording.mp4"),
        (nothing, "recording.mp4"),
        (nothing, "../EG_2/recording.mp4"),
        (nothing, "/etc/passwd"),
        (nothing, ""),
    ],
)
async def test_a_file_that_is_not_its_own_is_not_given_to_it(
    tmp_path: Path, made: Callable[[Put], None], local: str
) -> None:
    put = Put(tmp_path)
    (put.own.parent / "EG_2").mkdir()
    (put.own.parent / "EG_2" / "recording.mp4").write_bytes(bytes(LARGE))
    made(put)
    async with asyncio.timeout(10):
        assert (await put.ask("a.mp4", local)).code != ""
    assert put.stored() == {}


async def test_a_file_that_is_replaced_meanwhile_is_not_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Put(tmp_path)
    recorded = put.spooled(LARGE)
    (put.own.parent / "secret").write_bytes(bytes(LARGE))
    real = os.link

    def link(*args: Any, **options: Any) -> None:
        recorded.unlink()
        recorded.symlink_to(put.own.parent / "secret")
        real(*args, **options)

    monkeypatch.setattr(os, "link", link)
    assert (await put.ask("a.mp4")).code != ""
    assert list(put.out.iterdir()) == []


# --- names that only the room knows


def claim(identity: str) -> ipc.ClaimNames:
    return ipc.ClaimNames({"publisher_identity": identity})


async def test_the_first_claim_of_a_name_counts(tmp_path: Path) -> None:
    put = Put(tmp_path, "{publisher_identity}.mp4")
    put.recording.begin()
    for identity in ("ada", "ben"):
        assert not (await put.recording.claim(claim(identity))).code
    (put.out / "ben.mp4").write_bytes(b"good")
    put.spooled()
    assert (await put.ask("ada.mp4")).code == ""
    assert (await put.ask("ben.mp4")).code == Code.PERMISSION_DENIED
    assert put.stored() == {"ada.mp4": b"mine", "ben.mp4": b"good"}


async def test_the_mark_of_a_claim_is_part_of_the_name(tmp_path: Path) -> None:
    async def with_mark(plan: Plan, told: ipc.ClaimNames) -> str:
        if told.values["publisher_identity"] == "taken":
            raise EgressError(Code.ALREADY_EXISTS, "taken")
        return "EG_1"

    put = Put(tmp_path, "{publisher_identity}.mp4")
    permits = RecordingPermits(put.plan, with_mark, sealed)
    put.puts = LocalPuts("EG_1", permits)
    permits.begin()
    assert (await permits.claim(claim("taken"))).code == Code.ALREADY_EXISTS
    assert (await permits.claim(claim("ada"))).mark == "EG_1"
    put.spooled()
    for path, code in [("ada-EG_1.mp4", ""), ("ada.mp4", "denied"), ("taken-EG_1.mp4", "denied")]:
        assert bool((await put.ask(path)).code) is bool(code)


class Begun:
    """A recording that an earlier service began, with the names that its handler noted."""

    def __init__(self, folder: Path, path: str, seal: Callable[[bytes], str] = sealed) -> None:
        self.put = Put(folder, path)
        self.put.plan = replace(self.put.plan, name_values={"retry": "2"})
        self.before = RecordingPermits(self.put.plan, self._mark, seal)
        self.after = RecordingPermits(self.put.plan, None, seal)
        self.put.puts = LocalPuts("EG_1", self.after)
        self.put.spooled()

    async def _mark(self, plan: Plan, told: ipc.ClaimNames) -> str:
        return "EG_1" if told.values["publisher_identity"] == "twin" else ""

    async def note(self, identity: str, **forged: str) -> None:
        """Claims the name as a handler does, and notes it, or what somebody puts into its place."""
        name = NameClaim(self.put.plan, lambda message: None)
        self.before.begin()
        name.answer(await self.before.claim(claim(identity)))
        settled = await name.settle({"publisher_identity": identity}, ())
        journal = RecordingJournal.create(self.put.own.parent, self.put.plan)
        journal.note_names({**self.put.plan.name_values, **settled, **forged})
        journal.release()


@pytest.mark.parametrize(("identity", "path"), [("ada", "ada.mp4"), ("twin", "twin-EG_1.mp4")])
async def test_names_outlive_the_service(tmp_path: Path, identity: str, path: str) -> None:
    begun = Begun(tmp_path, "{publisher_identity}.mp4")
    await begun.note(identity)
    assert (await begun.put.ask(path)).code == ""


@pytest.mark.parametrize(
    "forged",
    [{"publisher_identity": "ben"}, {naming.MARK: "x"}, {naming.SEAL: "x"}, {"a": "b"}],
)
async def test_names_that_a_handler_wrote_are_not_believed(tmp_path: Path, forged: dict[str, str]) -> None:
    begun = Begun(tmp_path, "{publisher_identity}.mp4")
    await begun.note("ada", **forged)
    for path in ("ada.mp4", "ben.mp4", "ada-x.mp4"):
        assert (await begun.put.ask(path)).code == Code.PERMISSION_DENIED


async def test_names_of_another_recording_are_not_believed(tmp_path: Path) -> None:
    other = Begun(tmp_path / "other", "{publisher_identity}.mp4")
    other.put.plan = replace(other.put.plan, egress_id="EG_2")
    other.before = RecordingPermits(other.put.plan, None, sealed)
    other.before.begin()
    seal = (await other.before.claim(claim("ben"))).seal
    begun = Begun(tmp_path / "begun", "{publisher_identity}.mp4")
    await begun.note("ben", **{naming.SEAL: seal})
    assert (await begun.put.ask("ben.mp4")).code == Code.PERMISSION_DENIED


async def test_a_handler_that_begins_settles_no_name_by_its_journal(tmp_path: Path) -> None:
    begun = Begun(tmp_path, "{publisher_identity}.mp4")
    await begun.note("ada")
    begun.after.begin()
    assert (await begun.put.ask("ada.mp4")).code == Code.PERMISSION_DENIED


async def test_names_of_a_journal_do_not_change_a_known_name(tmp_path: Path) -> None:
    begun = Begun(tmp_path, "a.mp4")
    await begun.note("ada", **{naming.MARK: "x"})
    assert (await begun.put.ask("a-x.mp4")).code == Code.PERMISSION_DENIED
    assert (await begun.put.ask("a.mp4")).code == ""


# --- clips


@pytest.mark.parametrize(
    ("claimed", "asked", "code"),
    [
        ("clips/1-2.mp4", "clips/1-2.mp4", ""),
        ("clips/1-2.mp4", "clips/3-4.mp4", Code.PERMISSION_DENIED),
        ("clips/theirs.mp4", "clips/theirs.mp4", Code.ALREADY_EXISTS),
        ("calls/a.mp4", "calls/a.mp4", Code.PERMISSION_DENIED),
        ("clips/../calls/a.mp4", "clips/../calls/a.mp4", Code.PERMISSION_DENIED),
        (None, "clips/1-2.mp4", Code.PERMISSION_DENIED),
    ],
)
@pytest.mark.parametrize("links", [True, False])
async def test_a_clip_has_the_claimed_place_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: str | None, asked: str, code: str, links: bool
) -> None:
    if not links:

        def link(*_: object, **__: object) -> None:
            raise PermissionError(1, "no hard links here")

        monkeypatch.setattr(os, "link", link)
    put = Put(tmp_path)
    (put.out / "clips").mkdir()
    (put.out / "clips/theirs.mp4").write_bytes(b"good")
    recorded = FileOutput("calls/a.mp4", None, put.storage, False)
    target = FileOutput("clips/{from}-{to}", None, put.storage, False)
    permits = ClipPermits(ClipPlan("EG_1", recorded, target))
    put.puts = LocalPuts("EG_1", permits)
    if claimed is not None:
        permits.claimed(claimed)
        permits.claimed("clips/later.mp4")
    put.spooled()
    assert (await put.ask(asked)).code == code
    made = {"clips/1-2.mp4": b"mine"} if not code else {}
    assert put.stored() == {"clips/theirs.mp4": b"good", **made}


async def test_a_handler_that_puts_without_end_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(delay_s: float) -> None:
        waited.append(delay_s)

    monkeypatch.setattr("openegress.worker.handler_pace.asyncio.sleep", sleep)
    monkeypatch.setattr("openegress.worker.local_puts._PUT_S", 0.2)
    put = Put(tmp_path)
    put.spooled()
    for _ in range(4):
        assert (await put.ask("a.mp4")).code == ""
    assert sum(waited) == 0
    for _ in range(4):
        assert (await put.ask("a.mp4")).code == ""
    assert max(waited) > 1


# --- disks


async def test_a_handler_that_is_gone_puts_nothing_in_its_place_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Put(tmp_path)
    put.spooled()
    copies, goes_on = threading.Event(), threading.Event()
    real = os.pread

    def slow(*args: Any) -> bytes:
        copies.set()
        assert goes_on.wait(10)
        return real(*args)

    monkeypatch.setattr(os, "pread", slow)
    answer = put.begin("a.mp4")
    assert await asyncio.to_thread(copies.wait, 10)
    ending = asyncio.create_task(put.puts.end())
    await asyncio.sleep(0)
    goes_on.set()
    await ending
    assert (await answer).code != "" and list(put.out.iterdir()) == []
    # The handler that recovers it has its puts.
    assert (await put.ask("a.mp4")).code == "" and put.stored() == {"a.mp4": b"mine"}


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openegress.worker.local_puts._PATIENCE_S", 0.05)
    put = Put(tmp_path)
    put.spooled()
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        hangs.set()
        assert goes_on.wait(10)

    monkeypatch.setattr(os, "fsync", hang)
    put.begin("a.mp4")
    assert await asyncio.to_thread(hangs.wait, 10)
    (thread,) = [each for each in threading.enumerate() if each.name == "put EG_1"]
    async with asyncio.timeout(5):
        await put.puts.end()
    goes_on.set()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert put.stored() == {}


async def test_more_at_once_than_a_recorder_asks_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda fd: goes_on.wait(10))
    put = Put(tmp_path)
    put.spooled()
    answers = [put.begin("a.mp4") for _ in range(ipc.MAX_PUTS)]
    with pytest.raises(ValueError, match="more files"):
        put.begin("a.mp4")
    goes_on.set()
    assert {(await each).code for each in answers} == {""}
    assert (await put.ask("a.mp4")).code == ""
