"""Paths of recordings: which are the same, and who has them."""

import platform
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.ipc import ClaimNames
from openegress.core.plan import FileOutput, ImageOutput, Output, Plan, SegmentOutput, Split, WebSource
from openegress.core.sidecars import ENDINGS, Sidecar
from openegress.core.stems import StemFormat
from openegress.core.storages import AzureStorage, Backend, GCPStorage, LocalStorage, S3Storage, StoragePlan
from openegress.request import places
from openegress.store.leases import MemoryLeases
from openegress.worker import paths as paths_module
from openegress.worker.paths import Paths

LOCAL = LocalStorage("/out")
S3 = S3Storage(bucket="b", access_key="a")


def at(endpoint: str) -> S3Storage:
    return S3Storage(bucket="b", endpoint=endpoint)


def file(path: str, backend: Backend = LOCAL, prefix: str = "") -> FileOutput:
    return FileOutput(path, Container.MP4, StoragePlan(backend, prefix=prefix))


def segments(directory: str, prefix: str, playlist: str, live: str = "") -> SegmentOutput:
    return SegmentOutput(directory, prefix, playlist, live, 4, Container.TS, False, StoragePlan(LOCAL))


def fmp4(prefix: str) -> SegmentOutput:
    return SegmentOutput("", prefix, f"{prefix}.m3u8", "", 4, Container.FMP4, False, StoragePlan(LOCAL))


def images(prefix: str, suffix: Literal["index", "timestamp", "none"] = "index") -> ImageOutput:
    return ImageOutput("", prefix, 5, 0, 0, suffix, StoragePlan(LOCAL))


def in_parts(path: str) -> FileOutput:
    return replace(file(path), split=Split(every_s=60))


def track(path: str) -> FileOutput:
    """Of a track, whose codec decides the container."""
    return FileOutput(path, None, StoragePlan(LOCAL))


def plan_of(*outputs: Output, egress_id: str = "EG_1", room: str = "r", track: str = "") -> Plan:
    values = {"track_id": track} if track else {}
    return Plan(egress_id, WebSource("http://e"), outputs, None, None, room_name=room, name_values=values)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (file("x.mp4"), file("/out/x.mp4"), True),
        (file("a/../x.mp4"), file("x.mp4"), True),
        (file("x.mp4"), file("y.mp4"), False),
        (file("x.mp4"), file("x.mp4", LocalStorage("/other")), False),
        (file("x.mp4", S3), file("x.mp4", S3), True),
        (file("b/x.mp4", S3, "a"), file("x.mp4", S3, "a/b"), True),
        (file("x.mp4", S3), file("x.mp4", S3Storage(bucket="b", access_key="other")), True),
        (file("x.mp4", S3), file("x.mp4", S3Storage(bucket="c")), False),
        (file("x.mp4", S3), file("x.mp4", GCPStorage(bucket="b")), False),
        (file("x.mp4", at("http://h:9000")), file("x.mp4", at("http://H:9000/")), True),
        (file("x.mp4", at("http://h")), file("x.mp4", at("http://h:80")), True),
        (file("x.mp4", at("h")), file("x.mp4", at("https://h:443")), True),
        (file("x.mp4", at("h")), file("x.mp4", at("https://b.h")), True),
        (file("x.mp4", at("http://h:9000")), file("x.mp4", at("http://h:9001")), False),
        (file("x.mp4", S3), file("x.mp4", at("https://s3.eu-west-1.amazonaws.com")), True),
        (file("a//x.mp4", S3), file("a/./x.mp4", S3), True),
        (file("x.mp4", S3, "a//b/"), file("x.mp4", S3, "/a/b"), True),
        (file("x.mp4", AzureStorage("c", "one")), file("x.mp4", AzureStorage("c", "two")), False),
        (segments("d/", "s", "p.m3u8"), segments("d/", "t", "p.m3u8"), True),
        (segments("d/", "s", "p.m3u8"), segments("d/", "s", "q.m3u8"), True),
        (segments("d/", "s", "p.m3u8"), segments("d/", "t", "q.m3u8", "p.m3u8"), True),
        (segments("d/", "s", "p.m3u8"), segments("e/", "s", "p.m3u8"), False),
        (images("i"), images("i"), True),
        (images("i"), images("j"), False),
        (images("i"), file("i.mp4"), False),
        (images("i", "none"), images("i", "none"), True),
        (images("i", "none"), images("i"), False),
        (track("x"), track("x"), True),
        (track("x"), file("x.mp4"), True),
        (track("x.webm"), file("x.mp4"), True),
        (track("x"), file("y.mp4"), False),
        (fmp4("s"), file("s_init.mp4"), True),
        (fmp4("s"), track("s_init"), True),
        (fmp4("s"), file("s.mp4"), False),
        (in_parts("x-{part}.mp4"), in_parts("x-{part}.mp4"), True),
        (in_parts("x-{part}.mp4"), file("x-00001.mp4"), True),
        (in_parts("x-{part}.mp4"), track("x-100000"), True),
        (in_parts("x.mp4"), in_parts("x-{part}.mp4"), True),
        (in_parts("x.mp4"), file("x-00001.mp4"), True),
        (in_parts("x.mp4"), file("x.mp4"), True),
        (in_parts("x.mp4"), file("x-y.mp4"), False),
        (in_parts("x-{part}.mp4"), file("x-1.mp4"), False),
        (in_parts("x-{part}.mp4"), file("x-00001-y.mp4"), False),
        (in_parts("x-{part}.mp4"), file("x-20261130T1015.mp4"), False),
        (in_parts("x.mp4"), file("x-20261130.mp4"), False),
        (in_parts("x.mp4"), file("x-20261130101500123.mp4"), False),
        (in_parts("x.mp4"), file("x-001234.mp4"), False),
        (in_parts("x1{part}.mp4"), file("x100002.mp4"), True),
        (in_parts("a*{part}.mp4"), file("a*00002.mp4"), True),
        (in_parts("a*{part}.mp4"), file("a0000100002.mp4"), False),
        (fmp4("s"), file("s_init_1.mp4"), True),
        (fmp4("s"), file("s_init_x.mp4"), False),
        (segments("d/", "s", "p.m3u8"), replace(fmp4("s"), directory="d/", playlist="q.m3u8"), False),
        (images("i"), images("i_00017", "none"), True),
        (images("i", "timestamp"), images("i_20261130101500123", "none"), True),
        (images("i"), images("i_20261130101500123", "none"), False),
        (images("i"), images("i", "timestamp"), False),
        (images("i"), images("i_20261130", "none"), False),
        (images("i"), images("i_17", "none"), False),
        (images("i.+"), images("i.i_00001", "none"), False),
        (file("a*.mp4"), file("a*.mp4"), True),
        (file("a*.mp4"), file("ab.mp4"), False),
    ],
)
def test_same_places(one: Output, other: Output, is_same: bool) -> None:
    of_one = places.places_of(plan_of(one), "m")
    of_other = places.places_of(plan_of(other, egress_id="EG_2"), "m")
    assert (places.shared(of_one, of_other) is not None) is is_same
    assert places.shared(of_one, of_other) == places.shared(of_other, of_one)


def test_the_voices_of_one_may_be_called_as_those_of_another() -> None:
    """An identity may have a dot."""

    def voices(path: str) -> frozenset[str]:
        return places.places_of(replace(plan_of(file(path)), stems=StemFormat.OPUS), "m")

    assert places.shared(voices("x.mp4"), voices("x.ann.mp4"))
    assert not places.shared(voices("x.mp4"), voices("y.ann.mp4"))
    places.check_apart(replace(plan_of(file("x.mp4")), stems=StemFormat.OPUS))


def test_local_paths_of_two_machines_are_two() -> None:
    plan = plan_of(file("x.mp4"))
    assert not places.places_of(plan, "m") & places.places_of(plan, "n")


def test_two_machines_share_a_bucket_that_backs_up_their_disks() -> None:
    def of(backup: Backend, machine: str) -> frozenset[str]:
        storage = StoragePlan(LOCAL, backup=backup)
        return places.places_of(plan_of(FileOutput("x.mp4", Container.MP4, storage)), machine)

    assert places.shared(of(S3, "m"), of(S3, "n"))
    assert not places.shared(of(LocalStorage("/spare"), "m"), of(LocalStorage("/spare"), "n"))


def test_what_the_room_fills_is_the_same_for_the_same_track_alone() -> None:
    def of(track: str) -> frozenset[str]:
        return places.places_of(plan_of(file("{track_type}.mp4"), track=track), "m")

    assert of("TR_1") == of("TR_1")
    assert not of("TR_1") & of("TR_2")


def test_two_outputs_of_a_request_are_never_the_same() -> None:
    with pytest.raises(EgressError, match="two outputs of the request write to the same path, '/out/i_") as e:
        places.check_apart(plan_of(images("i"), images("i")))
    assert e.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(EgressError, match="two outputs of the request write to the same path, '/out/i_0000"):
        places.check_apart(plan_of(images("i"), images("i_00001", "none")))
    with pytest.raises(EgressError, match=r"is the file '/out/a/x\.mp4', and another needs a folder") as e:
        places.check_apart(plan_of(file("a/x.mp4"), segments("a/x.mp4/", "s", "p.m3u8")))
    assert e.value.code is Code.INVALID_ARGUMENT
    places.check_apart(plan_of(file("a/x.mp4", S3), segments("a/x.mp4/", "s", "p.m3u8")))
    places.check_apart(plan_of(images("i"), images("j"), file("i.mp4")))
    places.check_apart(plan_of(in_parts("i-{part}.mp4"), images("i"), fmp4("i")))


@pytest.mark.parametrize("sidecar", list(Sidecar))
async def test_sidecars_of_files_that_differ_in_their_extension_are_one_place(sidecar: Sidecar) -> None:
    leases = MemoryLeases()
    one, two = (Paths(leases, worker, lambda _: False) for worker in ("NE_1", "NE_2"))
    webm = replace(file("x.webm"), container=Container.WEBM)
    assert await one.claim(replace(plan_of(file("x.mp4")), sidecars=(sidecar,))) is None
    same = replace(plan_of(webm, egress_id="EG_2"), sidecars=(sidecar,))
    for paths in (one, two):
        taken = await paths.claim(same)
        assert taken is not None and taken.endswith(tuple(ENDINGS[sidecar]))
    assert await two.claim(plan_of(webm, egress_id="EG_2")) is None, "a film alone is another file"


async def test_the_number_of_a_part_is_taken_too() -> None:
    paths = Paths(MemoryLeases(), "NE_1", lambda _: False)
    assert await paths.claim(plan_of(in_parts("x-{part}.mp4"))) is None
    assert (
        await paths.claim(plan_of(file("x-00002.mp4"), egress_id="EG_2"))
        == f"local|{platform.node()}|/out/x-00002.mp4"
    )
    await paths.release("EG_1")
    assert await paths.claim(plan_of(file("x-00002.mp4"), egress_id="EG_2")) is None
    assert await paths.claim(plan_of(file("x-00003.mp4"), egress_id="EG_3")) is None
    assert await paths.claim(plan_of(in_parts("x-{part}.mp4"), egress_id="EG_4")) is not None


def test_what_is_continued_may_get_a_second_part() -> None:
    def of(path: str, *, resumes: bool = False) -> frozenset[str]:
        return places.places_of(replace(plan_of(file(path)), resumes=resumes), "m")

    assert places.shared(of("x.mp4", resumes=True), of("x-00002.mp4"))
    assert not places.shared(of("x.mp4"), of("x-00002.mp4"))


@pytest.mark.parametrize(
    ("many", "one"),
    [
        (in_parts("x-{part}.mp4"), file("x-00002.mp4")),
        (in_parts("x.mp4"), file("x-00002.mp4")),
        (in_parts("x/{part}.mp4"), file("x/12345.mp4")),
        (images("i"), images("i_00017", "none")),
        (images("i", "timestamp"), images("i_20261130101500123", "none")),
        (fmp4("s"), file("s_init_1.mp4")),
    ],
)
async def test_a_name_with_a_number_is_told_to_other_workers(
    monkeypatch: pytest.MonkeyPatch, many: Output, one: Output
) -> None:
    monkeypatch.setattr(paths_module, "_PAUSE_S", 0.0)
    leases = MemoryLeases()
    here, there = (Paths(leases, worker, lambda _: False) for worker in ("NE_1", "NE_2"))
    for first, second in ((many, one), (one, many)):
        assert await here.claim(plan_of(first)) is None
        taken = await there.claim(plan_of(second, egress_id="EG_2"))
        assert taken is not None
        assert "another recording is writing to '/out/" in places.taken(taken).message
        await here.release("EG_1")
        assert await there.claim(plan_of(second, egress_id="EG_2")) is None
        await there.release("EG_2")
    assert await leases.held() == set()


async def test_two_names_with_numbers_are_two() -> None:
    leases = MemoryLeases()
    paths = [Paths(leases, f"NE_{number}", lambda _: False) for number in range(2)]
    for number in range(4):
        plan = plan_of(file(f"x-0000{number}.mp4"), egress_id=f"EG_{number}")
        assert await paths[number % 2].claim(plan) is None
    await paths[0].release("EG_0")
    await paths[0].release("EG_2")
    assert await paths[0].claim(plan_of(in_parts("x.mp4"))) is not None, "the other has numbers still"


async def test_names_that_differ_in_case_are_one_where_the_disk_says_so(tmp_path: Path) -> None:
    """As a disk of Windows or macOS: each name is there in either case."""
    folding, plain = tmp_path / "Folding", tmp_path / "Plain"
    for folder in (folding, plain):
        folder.mkdir()
        (folder / "Probe").touch()
    (folding / "pROBE").hardlink_to(folding / "Probe")
    paths = Paths(MemoryLeases(), "NE_1", lambda _: False)

    async def claim(root: Path, path: str, egress_id: str) -> str | None:
        return await paths.claim(plan_of(file(path, LocalStorage(str(root))), egress_id=egress_id))

    assert await claim(folding, "new/Röom.mp4", "EG_1") is None
    assert await claim(folding, "NEW/rO\u0308om.mp4", "EG_2") is not None
    assert await claim(folding, "new/other.mp4", "EG_2") is None
    assert await claim(plain, "Room.mp4", "EG_3") is None
    assert await claim(plain, "room.mp4", "EG_4") is None
    with pytest.raises(EgressError, match="two outputs of the request write to the same path"):
        await paths.claim(
            plan_of(
                *(file(path, LocalStorage(str(folding))) for path in ("a.mp4", "A.mp4")), egress_id="EG_5"
            )
        )


async def test_workers_do_not_take_each_others_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "_PAUSE_S", 0.0)
    leases = MemoryLeases()
    one, two = (Paths(leases, worker, lambda _: False) for worker in ("NE_1", "NE_2"))
    both = [file("x.mp4", S3), file("y.mp4", S3)]
    assert await one.claim(plan_of(file("y.mp4", S3))) is None
    assert await two.claim(plan_of(*both, egress_id="EG_2")) == "s3|/b|y.mp4"
    assert await leases.held() == one.held() == {"s3|/b|y.mp4"}
    assert two.held() == frozenset()
    await one.release("EG_1")
    assert await two.claim(plan_of(*both, egress_id="EG_2")) is None


ANN = {"publisher_identity": "ann"}
VIDEO = {**ANN, "track_type": "video"}


@pytest.mark.parametrize(
    ("output", "values", "container", "meets"),
    [
        (file("{publisher_identity}.mp4"), ANN, None, file("ann.mp4")),
        (
            file("{publisher_identity}/{track_type}.mp4"),
            {**ANN, "track_type": "video"},
            None,
            file("ann/video.mp4"),
        ),
        (
            track("{publisher_identity}"),
            ANN,
            Container.WEBM,
            FileOutput("ann", Container.WEBM, StoragePlan(LOCAL)),
        ),
        (segments("{publisher_identity}/", "s", "p.m3u8"), ANN, None, segments("ann/", "s", "q.m3u8")),
        (images("{publisher_identity}"), ANN, None, images("ann")),
    ],
)
async def test_names_that_the_room_has_told_are_claimed_of_all_workers(
    monkeypatch: pytest.MonkeyPatch,
    output: Output,
    values: dict[str, str],
    container: Container | None,
    meets: Output,
) -> None:
    monkeypatch.setattr(paths_module, "_PAUSE_S", 0.0)
    leases = MemoryLeases()
    one, two = (Paths(leases, worker, lambda _: False) for worker in ("NE_1", "NE_2"))
    early, late, told = plan_of(meets), plan_of(output, egress_id="EG_2"), ClaimNames(values, container)
    assert await one.claim(early) is None
    for paths in (one, two):
        assert await paths.claim(late) is None
        with pytest.raises(EgressError, match=r"another recording is writing to '.*ann") as refused:
            await paths.claim_filled(late, told, [""])
        assert refused.value.code is Code.ALREADY_EXISTS
        assert await paths.claim_filled(late, told, ["", "EG_2"]) == "EG_2"
        assert any("EG_2" in place for place in await leases.held())
        await paths.release("EG_2")
    await one.release("EG_1")
    assert await leases.held() == frozenset()


async def test_a_track_meets_only_what_has_its_own_container() -> None:
    paths = Paths(MemoryLeases(), "NE_1", lambda _: False)
    for egress_id, container in (("EG_1", Container.OGG), ("EG_2", Container.WEBM)):
        plan = plan_of(track("{publisher_identity}"), egress_id=egress_id, track=egress_id)
        assert await paths.claim(plan) is None
        assert await paths.claim_filled(plan, ClaimNames(ANN, container), [""]) == ""


async def test_two_outputs_that_become_one_are_refused() -> None:
    paths = Paths(MemoryLeases(), "NE_1", lambda _: False)
    plan = plan_of(file("{publisher_identity}.mp4"), file("ann.mp4"))
    assert await paths.claim(plan) is None
    with pytest.raises(EgressError, match="two outputs of the request write to the same path"):
        await paths.claim_filled(plan, ClaimNames(ANN), [""])


async def test_a_heartbeat_amid_a_claim_is_nobody_elses() -> None:
    class Beating(MemoryLeases):
        async def take(self, worker_id: str, egress_id: str) -> bool:
            await self.hold(worker_id, paths.held())
            return await super().take(worker_id, egress_id)

    leases = Beating()
    paths = Paths(leases, "w1", lambda _: False)
    plan = plan_of(track("x"))
    assert await paths.claim(plan) is None
    assert len(paths.held()) > 1
    await paths.release("EG_1")
    assert not paths.held() and not await leases.held()


@pytest.mark.parametrize(
    ("output", "taken", "free"),
    [
        (file("day/x.mp4"), "day/x.mp4", "day/x-clip.mp4"),
        (replace(file("x-{part}.mp4"), split=Split(every_s=60.0)), "x-00007.mp4", "x-7.mp4"),
        (replace(file("x.mp4"), split=Split(every_s=60.0)), "x-00007.mp4", "x-7.mp4"),
    ],
)
async def test_a_clip_keeps_away_from_what_is_recorded(
    output: FileOutput, taken: str, free: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths_module, "_PAUSE_S", 0.0)
    leases, storage = MemoryLeases(), StoragePlan(LOCAL)
    one, two = (Paths(leases, worker, lambda _: False) for worker in ("NE_1", "NE_2"))
    assert await one.claim(plan_of(output)) is None
    for paths in (one, two):
        with pytest.raises(EgressError, match="is being written by a recording or a clip") as refused:
            await paths.claim_clip("CL_1", storage, taken)
        assert refused.value.code is Code.ALREADY_EXISTS
    await one.claim_clip("CL_1", storage, free)
    with pytest.raises(EgressError):
        await two.claim_clip("CL_2", storage, free)
    assert await two.claim(plan_of(file(free), egress_id="EG_2")) is not None, "nor is it written over"
    await one.release("CL_1")
    await two.claim_clip("CL_2", storage, free)
