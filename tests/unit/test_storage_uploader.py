"""Retries, backup and deletion, on storages that fail by a script and a clock that only tests move."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError, Fault, Phase, invalid
from openegress.core.plan import Backend, LocalStorage, StoragePlan
from openegress.storage import Storage, backed_up
from openegress.storage.backed_up import NAME, names
from openegress.storage.journal import Journal
from openegress.storage.late import MARGIN_S, LateUploads, SentByJournal, Superseded
from openegress.storage.uploader import Failover, Outcome, Uploader, UploadRetry, join


def away(text: str = "connection refused") -> EgressError:
    return EgressError(Code.UNAVAILABLE, text, fault=Fault.DESTINATION)


def refused(text: str = "no such bucket") -> EgressError:
    return EgressError(Code.INVALID_ARGUMENT, text, fault=Fault.CALLER)


class ScriptedStorage:
    """Fails as told, then keeps what it is given. `shrink` bytes of each object go missing."""

    def __init__(self, *failures: EgressError, forever: EgressError | None = None, shrink: int = 0) -> None:
        self.failures = list(failures)
        self.forever = forever
        self.shrink = shrink
        self.objects: dict[str, bytes] = {}
        self.calls = 0
        self.unreadable = False
        self.presign_error: EgressError | None = None
        self.clock_s = 0.0
        self.changed: dict[str, float] = {}
        """When an object was stored, by its path."""

    def _fail(self) -> None:
        self.calls += 1
        if self.forever is not None:
            raise self.forever
        if self.failures:
            raise self.failures.pop(0)

    async def check(self, path: str) -> None:
        self._fail()
        self.objects["checked:" + path] = b""

    async def put(self, local: Path, path: str, content_type: str) -> None:
        self._fail()
        data = local.read_bytes()
        self.objects[path] = data[: len(data) - self.shrink]
        self.changed[path] = self.clock_s
        self.shrink = 0

    async def size(self, path: str) -> int | None:
        return None if self.unreadable else len(self.objects[path])

    async def read(self, path: str, offset: int, size: int) -> bytes:
        raise NotImplementedError

    async def changed_s(self, path: str) -> float | None:
        return None if self.unreadable else self.changed.get(path)

    async def presign(self, path: str, expires_s: int) -> str:
        if self.presign_error is not None:
            raise self.presign_error
        return f"https://signed/{path}?expires={expires_s}"

    def location(self, path: str) -> str:
        return f"https://plain/{path}"

    async def close(self) -> None:
        self.calls = -1


class Bench:
    """An uploader on scripted storages, with the time it spent sleeping."""

    def __init__(
        self,
        plan: StoragePlan,
        primary: ScriptedStorage,
        backup: ScriptedStorage | None = None,
        failover: Failover | None = None,
    ) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.retries: list[UploadRetry] = []
        self.outcomes: list[Outcome] = []
        by_root = {"primary": primary, "backup": backup}

        async def connect(backend: Backend) -> Storage:
            assert isinstance(backend, LocalStorage)
            storage = by_root[backend.root]
            assert storage is not None
            return storage

        async def sleep(delay_s: float) -> None:
            self.slept.append(delay_s)
            self.now_s += delay_s

        self.uploader = Uploader(
            plan,
            on_retry=self.retries.append,
            on_outcome=self.outcomes.append,
            clock=lambda: self.now_s,
            sleep=sleep,
            backoff=Backoff(random=lambda: 0.0),
            connect=connect,
            failover=failover,
        )


PLAN = StoragePlan(backend=LocalStorage(root="primary"), retry_for_s=600)
WITH_BACKUP = StoragePlan(
    backend=LocalStorage(root="primary"),
    prefix="main",
    backup=LocalStorage(root="backup"),
    backup_prefix="spare/",
    retry_for_s=600,
)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize(
    ("prefix", "path", "joined"),
    [
        ("", "a.mp4", "a.mp4"),
        ("p", "a.mp4", "p/a.mp4"),
        ("p/", "/a.mp4", "p/a.mp4"),
        ("p/q", "r/a.mp4", "p/q/r/a.mp4"),
        ("/", "a.mp4", "/a.mp4"),
    ],
)
def test_prefix_goes_in_front(prefix: str, path: str, joined: str) -> None:
    assert join(prefix, path) == joined


def test_delays_double_up_to_the_ceiling() -> None:
    backoff = Backoff(first_s=1, ceiling_s=60, random=lambda: 0.0)
    assert [backoff.delay_s(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.delay_s(10_000) == 60


def test_jitter_cuts_a_delay_by_half_at_most() -> None:
    assert Backoff(first_s=8, random=lambda: 0.999).delay_s(1) == pytest.approx(4, abs=0.01)
    drawn = {Backoff(first_s=8).delay_s(1) for _ in range(50)}
    assert len(drawn) > 10
    assert all(4 < delay_s <= 8 for delay_s in drawn)


async def test_tries_again_until_the_storage_is_back(recording: Path) -> None:
    storage = ScriptedStorage(away(), away(), away())
    bench = Bench(PLAN, storage)
    stored = await bench.uploader.put(recording, "d/a.mp4", "video/mp4")
    assert storage.objects == {"d/a.mp4": b"0123456789"}
    assert bench.slept == [1, 2, 4]
    assert (stored.location, stored.backup_used, stored.size_bytes) == ("https://plain/d/a.mp4", False, 10)
    assert [(r.attempt, r.delay_s, r.error.message, r.on_backup) for r in bench.retries] == [
        (1, 1, "connection refused", False),
        (2, 2, "connection refused", False),
        (3, 4, "connection refused", False),
    ]
    assert recording.exists()


async def test_gives_up_when_the_budget_is_spent_and_keeps_the_file(recording: Path) -> None:
    bench = Bench(PLAN, ScriptedStorage(forever=away()))
    with pytest.raises(EgressError, match="connection refused") as raised:
        await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert raised.value.phase is Phase.STORAGE_WRITE
    assert 540 <= bench.now_s <= 600
    assert recording.read_bytes() == b"0123456789"


async def test_permanent_error_is_not_repeated(recording: Path) -> None:
    storage = ScriptedStorage(forever=refused())
    bench = Bench(PLAN, storage)
    with pytest.raises(EgressError, match="no such bucket"):
        await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert (storage.calls, bench.slept) == (1, [])
    assert recording.exists()


async def test_permanent_error_goes_to_the_backup_at_once(recording: Path) -> None:
    backup = ScriptedStorage()
    bench = Bench(WITH_BACKUP, ScriptedStorage(forever=refused()), backup)
    stored = await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert bench.slept == []
    assert (stored.path, stored.backup_used) == ("spare/a.mp4", True)
    assert backup.objects == {"spare/a.mp4": b"0123456789"}
    assert not recording.exists()


async def test_backup_takes_over_after_the_budget_and_stays(recording: Path) -> None:
    primary, backup = ScriptedStorage(forever=away()), ScriptedStorage(away())
    bench = Bench(WITH_BACKUP, primary, backup)
    first = await bench.uploader.put(recording, "a.ts", "video/mp2t")
    tried, slept_s = primary.calls, bench.now_s
    second = await bench.uploader.put(recording, "b.ts", "video/mp2t")
    assert first.backup_used and second.backup_used
    assert bench.retries[-1].on_backup
    assert primary.calls == tried, "a storage given up is not waited for again"
    assert bench.now_s == slept_s
    assert sorted(backup.objects) == ["spare/a.ts", "spare/b.ts"]


async def test_what_one_uploader_has_waited_for_the_next_does_not(recording: Path) -> None:
    failover, primary, backup = Failover(), ScriptedStorage(forever=away()), ScriptedStorage()
    first = Bench(WITH_BACKUP, primary, backup, failover)
    await first.uploader.put(recording, "a.mp4", "video/mp4")
    assert first.now_s > 540
    tried = primary.calls
    manifest = Bench(WITH_BACKUP, primary, backup, failover)
    assert (await manifest.uploader.put(recording, "a.json", "application/json")).backup_used
    assert (manifest.now_s, primary.calls) == (0, tried)
    backup.forever = away("also")
    with pytest.raises(EgressError, match="connection refused; backup storage: also"):
        await manifest.uploader.put(recording, "b.json", "application/json")


@pytest.mark.parametrize("on_backup", [False, True])
async def test_what_is_gone_is_found_where_it_went(recording: Path, on_backup: bool) -> None:
    primary, backup = ScriptedStorage(forever=away() if on_backup else None), ScriptedStorage()
    stored = await Bench(WITH_BACKUP, primary, backup).uploader.put(
        recording, "d/a.mp4", "video/mp4", delete_local=True
    )
    assert not recording.exists()
    found = names(recording.parent)
    assert found == ({"a.mp4"} if on_backup else set())
    # Whoever comes later may find the storage away, and the backup one that only takes.
    primary.forever, backup.unreadable = away(), True
    again = await Bench(WITH_BACKUP, primary, backup).uploader.locate("d/a.mp4", on_backup="a.mp4" in found)
    assert (again.path, again.location, again.backup_used) == (
        stored.path,
        "https://plain/spare/d/a.mp4" if on_backup else "https://plain/main/d/a.mp4",
        on_backup,
    )


async def test_what_is_found_is_signed_as_its_storage_is(recording: Path) -> None:
    plan = msgspec.structs.replace(WITH_BACKUP, presign=True)
    primary, backup = ScriptedStorage(), ScriptedStorage()
    uploader = Bench(plan, primary, backup).uploader
    signed, plain = [await uploader.locate("a", on_backup=on_backup) for on_backup in (False, True)]
    assert signed.location == "https://signed/main/a?expires=604800"
    assert plain.location == "https://plain/spare/a"
    primary.presign_error = refused("a SAS token cannot sign")
    unsigned = await uploader.locate("a", on_backup=False)
    assert (unsigned.location, unsigned.presign_error) == ("https://plain/main/a", "a SAS token cannot sign")


async def test_a_disk_too_full_for_the_note_gets_its_room(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = backed_up.append  # type: ignore[attr-defined]

    def full(path: Path, data: bytes) -> None:
        if recording.exists():
            raise OSError(28, "No space left on device")
        append(path, data)

    monkeypatch.setattr(backed_up, "append", full)
    bench = Bench(WITH_BACKUP, ScriptedStorage(forever=refused()), ScriptedStorage())
    await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert [path.name for path in recording.parent.iterdir()] == [NAME]
    assert names(recording.parent) == {"a.mp4"}


async def test_outcomes_are_told_for_each_storage_with_their_time(recording: Path) -> None:
    bench = Bench(PLAN, ScriptedStorage(away(), away()))
    stored = await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert bench.outcomes == [Outcome("video/mp4", 3.0, False, stored)]

    bench = Bench(WITH_BACKUP, ScriptedStorage(forever=refused()), ScriptedStorage())
    stored = await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert bench.outcomes == [
        Outcome("video/mp4", 0.0, False, None),
        Outcome("video/mp4", 0.0, True, stored),
    ]


async def test_both_gone_names_both_causes(recording: Path) -> None:
    bench = Bench(WITH_BACKUP, ScriptedStorage(forever=refused()), ScriptedStorage(forever=away("timed out")))
    with pytest.raises(EgressError, match="no such bucket; backup storage: timed out") as raised:
        await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert recording.exists()


async def test_short_object_is_sent_again_before_the_file_goes(recording: Path) -> None:
    storage = ScriptedStorage(shrink=3)
    bench = Bench(PLAN, storage)
    await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert storage.objects == {"a.mp4": b"0123456789"}
    assert bench.retries[0].error.message == "the storage holds 7 bytes of 'a.mp4' after 10 were sent"
    assert not recording.exists()


async def test_write_only_identity_is_taken_at_its_word(recording: Path) -> None:
    storage = ScriptedStorage()
    storage.unreadable = True
    await Bench(PLAN, storage).uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert not recording.exists()


async def test_missing_local_file_is_ours_and_touches_no_storage(tmp_path: Path) -> None:
    primary, backup = ScriptedStorage(), ScriptedStorage()
    bench = Bench(WITH_BACKUP, primary, backup)
    with pytest.raises(EgressError, match=r"cannot read the recorded file 'gone\.mp4'") as raised:
        await bench.uploader.put(tmp_path / "gone.mp4", "gone.mp4", "video/mp4")
    assert raised.value.fault is Fault.SERVICE
    assert (primary.calls, backup.calls) == (0, 0)


async def test_presigned_location_lasts_seven_days(recording: Path) -> None:
    plan = StoragePlan(backend=LocalStorage(root="primary"), presign=True)
    stored = await Bench(plan, ScriptedStorage()).uploader.put(recording, "a.mp4", "video/mp4")
    assert stored.location == "https://signed/a.mp4?expires=604800"


async def test_the_backup_has_its_own_word_on_signatures(recording: Path) -> None:
    for signs in (True, False):
        plan = msgspec.structs.replace(WITH_BACKUP, presign=not signs, backup_presign=signs)
        bench = Bench(plan, ScriptedStorage(forever=away()), ScriptedStorage())
        stored = await bench.uploader.put(recording, "a.mp4", "video/mp4")
        assert stored.backup_used
        assert stored.location.startswith("https://signed/" if signs else "https://plain/")


async def test_stored_file_without_signature_is_still_stored(recording: Path) -> None:
    storage = ScriptedStorage()
    storage.presign_error = refused("a SAS token cannot sign")
    plan = StoragePlan(backend=LocalStorage(root="primary"), presign=True)
    bench = Bench(plan, storage)
    stored = await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert (stored.location, stored.presign_error) == ("https://plain/a.mp4", "a SAS token cannot sign")
    assert [outcome.stored for outcome in bench.outcomes] == [stored]


@pytest.mark.parametrize(
    ("plan", "primary", "backup", "error"),
    [
        (PLAN, ScriptedStorage(), None, ""),
        (PLAN, ScriptedStorage(forever=refused()), None, "no such bucket"),
        (PLAN, ScriptedStorage(forever=away()), None, "connection refused"),
        (WITH_BACKUP, ScriptedStorage(forever=away()), ScriptedStorage(), ""),
        (WITH_BACKUP, ScriptedStorage(forever=refused()), ScriptedStorage(), "no such bucket"),
        (WITH_BACKUP, ScriptedStorage(forever=away()), ScriptedStorage(forever=away("also")), "also"),
        (
            StoragePlan(backend=LocalStorage(root="primary"), check=False),
            ScriptedStorage(forever=refused()),
            None,
            "",
        ),
    ],
)
async def test_check(
    plan: StoragePlan, primary: ScriptedStorage, backup: ScriptedStorage | None, error: str
) -> None:
    bench = Bench(plan, primary, backup)
    if error:
        with pytest.raises(EgressError, match=error):
            await bench.uploader.check("a.mp4")
    else:
        await bench.uploader.check("a.mp4")
    assert bench.slept == []


@pytest.mark.parametrize("check", [True, False])
async def test_fields_that_contradict_each_other_are_refused_without_a_check_too(check: bool) -> None:
    async def connect(_: Backend) -> Storage:
        raise invalid("GCP credentials are not JSON")

    uploader = Uploader(StoragePlan(LocalStorage("/"), check=check), connect=connect)
    with pytest.raises(EgressError, match="GCP credentials are not JSON"):
        await uploader.check("a.mp4")


async def test_close_closes_what_was_opened(recording: Path) -> None:
    primary, backup = ScriptedStorage(), ScriptedStorage()
    bench = Bench(WITH_BACKUP, primary, backup)
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    await bench.uploader.close()
    assert (primary.calls, backup.calls) == (-1, 0)


async def test_hurried_it_waits_for_no_further_attempt(tmp_path: Path) -> None:
    local = tmp_path / "x"
    local.write_bytes(b"abc")
    storage = ScriptedStorage(forever=away())

    async def connect(_: Backend) -> Storage:
        return storage

    uploader = Uploader(
        StoragePlan(LocalStorage("/")), connect=connect, on_retry=lambda _: uploader.stop_retrying()
    )
    async with asyncio.timeout(1):
        with pytest.raises(EgressError, match="connection refused"):
            await uploader.put(local, "x", "text/plain", delete_local=True)
    assert storage.calls == 2
    assert local.exists()


# --- of a recording that has ended before


class Notes:
    """What a recovery notes, as long as the test lasts."""

    def __init__(self) -> None:
        self.stored: dict[str, float] = {}
        self.sent: dict[str, int] = {}

    def stored_s(self, path: str) -> float:
        return self.stored.get(path, 0.0)

    def sent_bytes(self, path: str) -> int:
        return self.sent.get(path, -1)

    def note_sent(self, path: str, size_bytes: int) -> None:
        self.sent[path] = size_bytes

    def note_stored(self, path: str, at_s: float) -> None:
        self.stored[path] = at_s


def late(stopped_s: float) -> tuple[Failover, Notes]:
    notes = Notes()
    return Failover(late=LateUploads(stopped_s, notes)), notes


async def test_a_late_upload_leaves_what_another_recording_has_stored_since(recording: Path) -> None:
    primary, backup = ScriptedStorage(), ScriptedStorage()
    primary.objects["main/a.mp4"], primary.changed["main/a.mp4"] = b"newer", 2_000.0
    failover, _ = late(1_000.0)
    bench = Bench(WITH_BACKUP, primary, backup, failover)
    with pytest.raises(Superseded) as refused:
        await bench.uploader.put(recording, "a.mp4", "video/mp4", delete_local=True)
    assert refused.value.message == (
        "'main/a.mp4' holds another recording, stored 1970-01-01T00:33:20Z, after this one had ended: "
        "that one is kept"
    )
    assert primary.objects["main/a.mp4"] == b"newer" and not backup.objects
    assert recording.exists() and bench.slept == []
    # The storage has not been given up for what is free.
    assert not (await bench.uploader.put(recording, "b.mp4", "video/mp4")).backup_used


async def test_what_was_made_before_a_crash_is_late_and_what_follows_is_not(recording: Path) -> None:
    storage = ScriptedStorage()
    for name in ("a.mp4", "b.mp4"):
        storage.objects[name], storage.changed[name] = b"newer", 2_000.0
    bench = Bench(PLAN, storage)
    with pytest.raises(Superseded):
        await bench.uploader.put(recording, "a.mp4", "video/mp4", late=LateUploads(1_000.0, Notes()))
    await bench.uploader.put(recording, "b.mp4", "video/mp4")
    assert storage.objects == {"a.mp4": b"newer", "b.mp4": recording.read_bytes()}


@pytest.mark.parametrize("changed_s", [None, 1.0, 1_000.0, 1_000.0 + MARGIN_S])
async def test_a_late_upload_replaces_what_is_older(recording: Path, changed_s: float | None) -> None:
    storage = ScriptedStorage()
    if changed_s is not None:
        storage.objects["a.mp4"], storage.changed["a.mp4"] = b"older", changed_s
    failover, notes = late(1_000.0)
    storage.clock_s = 5_000.0
    bench = Bench(PLAN, storage, failover=failover)
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert storage.objects["a.mp4"] == recording.read_bytes()
    # The next recovery knows it for its own, as long as it is that one.
    assert notes.stored == {"a.mp4": 5_000.0}
    storage.clock_s = 6_000.0
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    storage.objects["a.mp4"], storage.changed["a.mp4"] = b"another one", 7_000.0
    with pytest.raises(Superseded):
        await bench.uploader.put(recording, "a.mp4", "video/mp4")


async def test_a_late_upload_whose_answer_was_lost_is_done_again(recording: Path) -> None:
    """Or whose process was killed before it could note that it was stored."""
    storage = ScriptedStorage(away())
    storage.clock_s = 5_000.0
    failover, notes = late(1_000.0)
    notes.note_sent("a.mp4", recording.stat().st_size)
    storage.objects["a.mp4"], storage.changed["a.mp4"] = recording.read_bytes(), 2_000.0
    bench = Bench(PLAN, storage, failover=failover)
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert len(bench.retries) == 1
    assert notes.stored == {"a.mp4": 5_000.0}


async def test_a_late_upload_that_arrived_cut_off_is_done_again(recording: Path) -> None:
    storage = ScriptedStorage(shrink=1)
    storage.clock_s = 5_000.0
    bench = Bench(PLAN, storage, failover=late(1_000.0)[0])
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert len(bench.retries) == 1
    assert storage.objects["a.mp4"] == recording.read_bytes()


async def test_an_identity_that_may_not_look_cannot_tell(recording: Path) -> None:
    storage = ScriptedStorage()
    storage.unreadable, storage.changed["a.mp4"] = True, 2_000.0
    bench = Bench(PLAN, storage, failover=late(1_000.0)[0])
    await bench.uploader.put(recording, "a.mp4", "video/mp4")
    assert storage.objects["a.mp4"] == recording.read_bytes()


def test_the_first_recovery_notes_when_the_recording_stopped_and_each_what_it_sends(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "EG_1", b"plan")
    folder = journal.folder / "file-0"
    folder.mkdir()
    (folder / "recording.mp4").write_bytes(b"media")
    # The folder last: a file of it was stored then, and removed.
    changes = {journal.folder / "journal.jsonl": 300.0, folder / "recording.mp4": 400.0, folder: 500.0}
    for path, at_s in (changes | {journal.folder: 100.0}).items():
        os.utime(path, (at_s, at_s))
    LateUploads.of(journal)
    SentByJournal(journal).note_sent("a.mp4", 7)
    SentByJournal(journal).note_stored("a.mp4", 600.5)
    (folder / "recording.mp4").write_bytes(b"finalised")
    for _ in range(2):
        again = Journal.load(journal.folder)
        assert again.facts["stopped_s"] == 500.0
        sent = SentByJournal(again)
        assert (sent.sent_bytes("a.mp4"), sent.stored_s("a.mp4")) == (7, 600.5)
        assert (sent.sent_bytes("b.mp4"), sent.stored_s("b.mp4")) == (-1, 0.0)
        LateUploads.of(again)
