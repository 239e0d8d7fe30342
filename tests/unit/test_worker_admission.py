"""Who is let in: the arithmetic, the load it goes by as cgroups tell it, and what is configured."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from livekit.protocol.egress import EgressInfo

from openegress.app.worker_config import costs, worker_config
from openegress.config.settings import CPUCost, Settings
from openegress.core.errors import Code, Fault
from openegress.core.events import Composing
from openegress.core.plan import LayoutSource, Plan, TemplateSource, WebSource
from openegress.request.request_kind import RequestKind
from openegress.worker.admission import AdmissionLimits, Cost, Load, Reserved, admit, hesitation_s
from openegress.worker.config import WorkerLeases
from openegress.worker.cost import RATE_1080P60
from openegress.worker.leftovers import kind_of
from openegress.worker.load import LoadMeter
from openegress.worker.service import WorkerService

MIB, GIB = 2**20, 2**30
COST = Cost(0.5, 500 * MIB)
NOTHING = Reserved()
ALL = AdmissionLimits()


@pytest.mark.parametrize(
    ("load", "reserved", "running", "limits", "refusal"),
    [
        (Load(2, 0, 4 * GIB, 4 * GIB), NOTHING, 1, ALL, ""),
        (Load(2, 1.5, 4 * GIB, 4 * GIB), NOTHING, 1, ALL, ""),
        (Load(2, 1.6, 4 * GIB, 4 * GIB), NOTHING, 1, ALL, "not enough CPU"),
        (Load(2, 1.6, 4 * GIB, 4 * GIB), NOTHING, 0, ALL, ""),
        (Load(2, 1.0, 4 * GIB, 4 * GIB), Reserved(0.6), 2, ALL, "not enough CPU"),
        (Load(2, 3.0, 4 * GIB, 4 * GIB), NOTHING, 1, ALL, "0.00 of 2 are free with 1 running"),
        (Load(2, 1.2, 4 * GIB, 4 * GIB), NOTHING, 1, AdmissionLimits(0.8), "0.40 of 1.6 are free"),
        (Load(2, 1.0, 4 * GIB, 4 * GIB), NOTHING, 1, AdmissionLimits(0.8), ""),
        (Load(8, 0, 4 * GIB, 499 * MIB), NOTHING, 1, ALL, "not enough memory"),
        (Load(8, 0, 4 * GIB, 500 * MIB), NOTHING, 1, ALL, ""),
        (Load(8, 0, 4 * GIB, 600 * MIB), Reserved(0, 200 * MIB), 1, ALL, "400 of 4096 are free"),
        (Load(8, 0, 4 * GIB, 0), NOTHING, 0, ALL, ""),
        (Load(8, 0, 4 * GIB, 2 * GIB), NOTHING, 1, AdmissionLimits(1, 2 * GIB), "0 of 2048 are free"),
        (Load(8, 0, 4 * GIB, 3 * GIB), NOTHING, 1, AdmissionLimits(1, 2 * GIB), ""),
        (Load(8, 0, 4 * GIB, 100 * MIB), NOTHING, 1, AdmissionLimits(1, 64 * GIB), "100 of 4096 are free"),
    ],
)
def test_admission(
    load: Load, reserved: Reserved, running: int, limits: AdmissionLimits, refusal: str
) -> None:
    error = admit("web", COST, load, reserved, running, limits)
    if not refusal:
        assert error is None
        return
    assert error is not None
    assert refusal in error.message
    assert (error.code, error.fault) == (Code.UNAVAILABLE, Fault.SERVICE)


@pytest.mark.parametrize(
    ("used", "reserved", "running", "expected"),
    [
        (0.0, 0.0, 0, 0.1),
        (3.0, 0.0, 0, 0.1),
        (0.0, 0.0, 1, 0.05),
        (2.0, 0.0, 1, 0.025),
        (1.0, 1.0, 1, 0.025),
        (9.0, 0.0, 1, 0.0),
    ],
)
def test_the_fuller_goes_first_and_the_idle_last(
    used: float, reserved: float, running: int, expected: float
) -> None:
    load = Load(4.0, used, 4 * GIB, 4 * GIB)
    assert hesitation_s(load, Reserved(reserved), running) == pytest.approx(expected)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu_max": "150000 100000"}, 1.5),
        ({"cpu_max": "50000 100000"}, 0.5),
        ({"cpu_max": "max 100000"}, float(psutil.cpu_count() or 1)),
        ({}, float(psutil.cpu_count() or 1)),
    ],
)
def test_cores_of_a_container(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    assert LoadMeter(write(tmp_path, **files)).sample().cores == cores


def test_used_cores_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("openegress.worker.load.time.monotonic", lambda: now_s)
    write(tmp_path, cpu_max="200000 100000", cpu_stat="usage_usec 5000000\nuser_usec 1")
    meter = LoadMeter(tmp_path)
    assert meter.sample().used_cores == 0
    write(tmp_path, cpu_stat="usage_usec 6500000\nuser_usec 1")
    now_s = 100.1
    assert meter.sample().used_cores == 0, "too short a time to say"
    now_s = 101.0
    assert meter.sample().used_cores == pytest.approx(1.5)
    now_s = 103.0
    assert meter.sample().used_cores == 0


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        ({"memory_max": str(GIB), "memory_current": str(300 * MIB)}, GIB, GIB - 300 * MIB),
        (
            {
                "memory_max": str(GIB),
                "memory_current": str(900 * MIB),
                "memory_stat": f"anon {400 * MIB}\ninactive_file {500 * MIB}",
            },
            GIB,
            GIB - 400 * MIB,
        ),
    ],
)
def test_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], total: int, free: int
) -> None:
    machine = psutil.virtual_memory()._replace(total=8 * GIB, available=8 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    load = LoadMeter(write(tmp_path, **files)).sample()
    assert (load.memory_bytes, load.free_memory_bytes, load.in_cgroup) == (total, free, True)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine._replace(available=MIB))
    assert LoadMeter(tmp_path).sample().free_memory_bytes == MIB, "a limit is no promise of the machine"


@pytest.mark.parametrize("files", [{}, {"memory_max": "max", "memory_current": "7"}, {"memory_max": "7"}])
def test_memory_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    machine = psutil.virtual_memory()._replace(total=8 * GIB, available=3 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    load = LoadMeter(write(tmp_path, **files)).sample()
    assert (load.memory_bytes, load.free_memory_bytes, load.in_cgroup) == (8 * GIB, 3 * GIB, False)


@pytest.mark.parametrize(
    ("configured", "kind", "expected"),
    [
        (CPUCost(), RequestKind.ROOM_COMPOSITE, Cost(0.45, 180 * MIB)),
        (CPUCost(), RequestKind.ROOM_COMPOSITE_PAGE, Cost(0.65, 550 * MIB)),
        (CPUCost(room_composite_cpu_cost=3), RequestKind.ROOM_COMPOSITE, Cost(3, 180 * MIB, RATE_1080P60)),
        (
            CPUCost(room_composite_cpu_cost=3),
            RequestKind.ROOM_COMPOSITE_PAGE,
            Cost(3, 550 * MIB, RATE_1080P60),
        ),
        (CPUCost(memory_cost=0.5), RequestKind.WEB, Cost(0.5, 512 * MIB)),
        (CPUCost(memory_cost=0.5), RequestKind.AUDIO_ROOM_COMPOSITE, Cost(0.06, 512 * MIB)),
        (
            CPUCost(memory_cost=0.5, sdk_audio_room_composite_memory_cost=0.25),
            RequestKind.AUDIO_ROOM_COMPOSITE,
            Cost(0.06, 256 * MIB),
        ),
        (CPUCost(sdk_audio_room_composite_memory_cost=0.25), RequestKind.TRACK, Cost(0.03, 70 * MIB)),
    ],
)
def test_configured_costs(configured: CPUCost, kind: RequestKind, expected: Cost) -> None:
    assert costs(Settings(cpu_cost=configured))[kind] == expected


def test_configured_limits() -> None:
    settings = Settings(cpu_cost=CPUCost(max_cpu_utilization=0.5, max_memory=1.5))
    assert worker_config(settings).limits == AdmissionLimits(0.5, 1536 * MIB)
    assert worker_config(Settings()).limits == AdmissionLimits(0.8, 0)


def test_every_kind_has_a_cost() -> None:
    assert set(costs(Settings())) == set(RequestKind)


def test_what_needs_a_browser() -> None:
    assert {kind for kind in RequestKind if kind.needs_browser} == {
        RequestKind.ROOM_COMPOSITE_PAGE,
        RequestKind.WEB,
        RequestKind.AUDIO_WEB,
    }


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (LayoutSource(room_name="r", layout="", ws_url="ws://l", token="t"), RequestKind.ROOM_COMPOSITE),
        (
            TemplateSource(base_url="http://t", room_name="r", layout="", ws_url="ws://l", token="t"),
            RequestKind.ROOM_COMPOSITE_PAGE,
        ),
        (WebSource(url="http://e"), RequestKind.WEB),
    ],
)
def test_the_kind_of_what_was_left(
    source: LayoutSource | TemplateSource | WebSource, kind: RequestKind
) -> None:
    assert kind_of(Plan("EG_1", source, (), None, None)) is kind


@dataclass
class Running:
    """As much of a job as counts for admission."""

    kind: str
    record: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(info=EgressInfo()))
    started_s: float = 0.0
    composing: Composing | None = None


@pytest.mark.parametrize(
    ("running", "kind", "is_refused"),
    [
        ([], RequestKind.WEB, False),
        ([RequestKind.WEB], RequestKind.WEB, True),
        ([RequestKind.ROOM_COMPOSITE_PAGE], RequestKind.AUDIO_WEB, True),
        ([RequestKind.WEB], RequestKind.ROOM_COMPOSITE_PAGE, True),
        ([RequestKind.WEB], RequestKind.ROOM_COMPOSITE, False),
        ([RequestKind.ROOM_COMPOSITE], RequestKind.WEB, False),
        ([RequestKind.PARTICIPANT, RequestKind.AUDIO_ROOM_COMPOSITE], RequestKind.WEB, False),
    ],
)
def test_browsers_are_limited_and_nothing_else(
    running: list[RequestKind], kind: RequestKind, is_refused: bool
) -> None:
    terms = replace(worker_config(Settings()), max_browsers=1)
    meter = SimpleNamespace(sample=lambda: Load(64, 0, 64 * GIB, 64 * GIB))
    supervisor = [Running(each.value) for each in running]
    unused: Any = None
    service = WorkerService(
        terms,
        server=unused,
        records=unused,
        leases=WorkerLeases(unused, unused),
        worker_id="NE_1",
        supervisor=cast(Any, supervisor),
        meter=cast(Any, meter),
        on_start=lambda: None,
    )
    refusal = service.would_admit(kind)
    assert (refusal is not None) is is_refused
    if refusal is not None:
        assert refusal.message == "1 browsers are running here, and max_concurrent_web is 1"
