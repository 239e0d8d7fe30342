"""What a recording is granted, by its plan: nothing of another's storage or identity."""

import threading
from pathlib import Path

import pytest

from openegress.core import ipc, storages
from openegress.core import plan as plans
from openegress.core.clip_plan import ClipPlan, StoredPart
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.looks import PictureFiles
from openegress.core.plan import Plan
from openegress.core.storages import Backend
from openegress.handler.cage import Cage, rules
from openegress.handler.landlock import READ, Access, PathRule
from openegress.handler.loop import HandlerLoop
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.seccomp import ARCHITECTURES, UnixSockets, program

SPOOL, HOME = Path("/data/spool"), Path("/home/egress")
NAMED = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/secrets/aws/token",
    "GOOGLE_APPLICATION_CREDENTIALS": "/run/secrets/gcp.json",
    "AZURE_FEDERATED_TOKEN_FILE": "/run/secrets/azure/token",
}
IDENTITIES = {
    HOME / ".aws",
    HOME / ".config" / "gcloud",
    *(Path(each) for each in ("/run/secrets/aws", "/run/secrets/gcp.json", "/run/secrets/azure")),
}


def granted(*backends: Backend, backup: Backend | None = None) -> list[PathRule]:
    outputs = tuple(
        plans.FileOutput("a.mp4", Container.MP4, storages.StoragePlan(each, backup=backup), False)
        for each in backends
    )
    source = plans.MediaSource(room_name="r", ws_url="ws://h", token="t")
    return rules(Plan("EG_1", source, outputs, None, None), SPOOL, NAMED, HOME)


def written(found: list[PathRule]) -> set[str]:
    return {str(rule.path) for rule in found if Access.MAKE_REG in rule.access}


@pytest.mark.parametrize(
    ("backend", "identity"),
    [
        (storages.S3Storage("b"), {HOME / ".aws", Path("/run/secrets/aws")}),
        (storages.S3Storage("b", access_key="a", secret="s"), set()),
        (storages.GCPStorage("b"), {HOME / ".config" / "gcloud", Path("/run/secrets/gcp.json")}),
        (storages.GCPStorage("b", credentials="{}"), set()),
        (storages.AzureStorage("b", "a"), {Path("/run/secrets/azure")}),
        (storages.AzureStorage("b", "a", account_key="k"), set()),
        (storages.LocalStorage("/out"), set()),
    ],
)
def test_the_services_identity_is_there_only_where_the_storage_rests_on_it(
    backend: Backend, identity: set[Path]
) -> None:
    for found in (granted(backend), granted(storages.LocalStorage("/out"), backup=backend)):
        assert {rule.path for rule in found} & IDENTITIES == identity


def test_it_reads_the_pictures_that_it_may_draw() -> None:
    source = plans.LayoutSource(room_name="r", layout="", ws_url="ws://h", token="t")
    files = PictureFiles({"acme": "/etc/acme.png"}, {"stage": "/srv/stage.jpg"})
    found = rules(Plan("EG_1", source, (), None, None, pictures=files), SPOOL, NAMED, HOME)
    access = {str(rule.path): rule.access for rule in found}
    assert access["/etc/acme.png"] == access["/srv/stage.jpg"] == READ


@pytest.mark.parametrize("backend", [storages.S3Storage("b"), storages.LocalStorage("/out")])
def test_it_writes_into_its_folder_alone(backend: Backend) -> None:
    found = granted(backend, backup=storages.LocalStorage("/spare"))
    assert written(found) == {str(SPOOL / "EG_1")}
    assert not [rule for rule in found if str(rule.path).startswith(("/out", "/spare"))]


def test_a_clip_has_the_files_that_it_is_cut_from_and_no_others() -> None:
    storage = storages.StoragePlan(
        storages.LocalStorage("/out"), prefix="p", backup=storages.LocalStorage("/spare"), backup_prefix=""
    )
    recorded = plans.FileOutput("calls/a.mp4", None, storage, False)
    target = plans.FileOutput("clips/{from}-{to}", None, storage, False)
    parts = (StoredPart("calls/a.mp4", 1, 1), StoredPart("/b.mp4", 1, 1), StoredPart("../c.mp4", 1, 1))
    clip = ClipPlan("CL_1", recorded, target, left_in="/data/spool/EG_1/file-0", stored=parts)
    found = rules(clip, SPOOL, NAMED, HOME)
    readable = {
        str(rule.path)
        for rule in found
        if Access.READ_FILE in rule.access and str(rule.path).startswith(("/out", "/spare", "/data"))
    }
    own = {"/data/spool/CL_1", "/data/spool/EG_1/file-0"}
    assert readable == own | {f"{root}/{name}" for root in ("/out/p", "/spare") for name in A_AND_B}
    assert written(found) == {"/data/spool/CL_1"}


A_AND_B = ("calls/a.mp4", "b.mp4")


def test_a_clip_of_segments_reads_the_folder_of_its_playlist() -> None:
    storage = storages.StoragePlan(storages.LocalStorage("/out"))
    recorded = plans.SegmentOutput("", "", "hls/list.m3u8", "", 0, Container.TS, False, storage)
    target = plans.FileOutput("clip-{from}", None, storage, False)
    found = rules(ClipPlan("CL_1", recorded, target, playlist="hls/list.m3u8"), SPOOL, NAMED, HOME)
    access = {str(rule.path): rule.access for rule in found}
    assert access["/out/hls"] == READ and "/out" not in access


def test_neither_the_working_folder_nor_the_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("/home/egress")
    paths = {rule.path for rule in granted(storages.LocalStorage("/out"))}
    assert not paths & {Path("/"), Path("/etc"), HOME, SPOOL, SPOOL.parent, Path("/proc"), Path("/tmp")}


class _Mute:
    def send(self, message: ipc.ToWorker) -> None:
        """Nobody listens."""


async def test_no_thread_of_before_stays_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recording that goes on, either."""
    source = plans.MediaSource(room_name="r", ws_url="ws://h", token="t")
    plan = Plan("EG_1", source, (), None, None, resumes=True)
    RecordingJournal.create(tmp_path, plan).release()
    before, threads = set(threading.enumerate()), set[threading.Thread]()

    async def enter(cage: Cage) -> None:
        threads.update(threading.enumerate())
        raise EgressError(Code.INTERNAL, "as far as this goes")

    monkeypatch.setattr(Cage, "enter", enter)
    monkeypatch.setattr("openegress.source.memory.avoid_huge_pages", lambda: None)  # for good, here too
    loop = HandlerLoop(_Mute())  # type: ignore[arg-type]
    loop._settings = ipc.HandlerSettings(str(tmp_path))
    await loop._take(ipc.Run(plan, resumes=True))
    assert loop._running is not None
    await loop._running
    assert threads - before == set() and threads


@pytest.mark.parametrize("unix_sockets", UnixSockets)
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_jump_of_the_filter_lands_in_it(machine: str, unix_sockets: UnixSockets) -> None:
    code = program(ARCHITECTURES[machine], unix_sockets)
    instructions = [code[at : at + 8] for at in range(0, len(code), 8)]
    for position, (low, high, yes, no, *_) in enumerate(instructions):
        if (low | high << 8) & 7 == 5:  # BPF_JMP
            assert position + 1 + max(yes, no) < len(instructions)
    assert instructions[-1][0] == 0x06  # BPF_RET
