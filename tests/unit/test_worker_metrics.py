"""What Prometheus reads of a worker, by name, labels and value."""

from pathlib import Path
from typing import Any

import pytest
from livekit.protocol.egress import EgressInfo, WebEgressRequest
from prometheus_client.parser import text_string_to_metric_families

from openegress.core.events import Active, Ended, EndReason, EndReport, Progress, Uploaded
from openegress.core.plan import LayoutSource, Plan
from openegress.worker.admission import AdmissionLimits, Load
from openegress.worker.handler_link import Death
from openegress.worker.job import Job
from openegress.worker.metrics import Metrics, Snapshot
from openegress.worker.oom import oom_kills
from openegress.worker.records import Record
from openegress.worker.unreported import Unreported
from openegress.worker.usage import ProcessUsage

GIB = 2**30
ONE = {"node_id": "NE_1", "cluster_id": "C"}
PROGRESS = Progress(
    media_ns=2_500_000_000,
    frames=75,
    unique_frames=70,
    dropped_frames=3,
    size_bytes=1000,
    queue=2,
    fps=29.5,
    sent_bytes=4000,
    waiting_uploads=5,
)


def plan() -> Plan:
    source = LayoutSource(room_name="r", layout="", ws_url="ws://l", token="t")
    return Plan(egress_id="EG_1", source=source, outputs=(), video=None, audio=None)


@pytest.fixture
async def job(tmp_path: Path) -> Job:
    async def taken(info: EgressInfo) -> None:
        """Nobody asks here what was reported."""

    record = Record(EgressInfo(egress_id="EG_1", web=WebEgressRequest()), taken, Unreported(tmp_path))
    job = Job(plan(), "web", record, lambda *_: None)
    job._take(PROGRESS)
    return job


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items() - ONE.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.labels.items() >= ONE.items()
    }


def test_the_process_is_told_as_every_client_tells_it() -> None:
    metrics = Metrics(
        "NE_1", "C", lambda: Snapshot(Load(8, 0, GIB, GIB), [], False, True, {}, AdmissionLimits())
    )
    names = {
        sample.name
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return read(metrics).get((name, tuple(sorted(labels.items()))))


def snapshot(**changes: Any) -> Snapshot:
    load = Load(4.0, 1.0, 8 * GIB, 6 * GIB, in_cgroup=True)
    values: dict[str, Any] = {"load": load, "jobs": [], "draining": False, "can_accept": True, "usage": {}}
    values |= {"limits": AdmissionLimits(0.5, 4 * GIB)} | changes
    return Snapshot(**values)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("livekit_egress_available", {}, 1),
        ("livekit_egress_can_accept_request", {}, 1),
        ("livekit_egress_is_disabled", {}, 0),
        ("livekit_egress_is_terminating", {}, 0),
        ("livekit_egress_cgroup_memory_bytes", {}, 2 * GIB),
        ("livekit_egress_cgroup_read_success", {}, 1),
        ("livekit_egress_would_reject_cgroup", {}, 0),
        ("livekit_egress_proc_rss_bytes", {}, 0),
        ("livekit_egress_pulse_sinks", {}, 0),
        ("livekit_egress_requests", {"type": "web"}, 0),
        ("livekit_node_cpu_load", {"node_type": "EGRESS"}, 0.25),
        ("livekit_load_ratio", {"type": "cpu"}, 0.5),
        ("livekit_load_ratio", {"type": "memory"}, 0.5),
    ],
)
def test_an_idle_worker(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(Metrics("NE_1", "C", snapshot), name, **labels) == expected


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("livekit_egress_available", {}, 0),
        ("livekit_egress_can_accept_request", {}, 0),
        ("livekit_egress_is_terminating", {}, 1),
        ("livekit_egress_cgroup_read_success", {}, 0),
        ("livekit_egress_would_reject_cgroup", {}, 1),
        ("livekit_egress_proc_rss_bytes", {}, 300),
        ("livekit_egress_pulse_sinks", {}, 1),
        ("livekit_egress_requests", {"type": "web"}, 1),
        ("livekit_egress_requests", {"type": "track"}, 0),
        ("livekit_egress_segments_uploads_channel_size", {"egress_id": "EG_1", "type": "web"}, 5),
        ("livekit_egress_playlist_uploads_channel_size", {"egress_id": "EG_1", "type": "web"}, 0),
        ("openegress_fps", {"egress_id": "EG_1", "type": "web"}, 29.5),
        ("openegress_dropped_frames", {"egress_id": "EG_1", "type": "web"}, 3),
        ("openegress_queue_frames", {"egress_id": "EG_1", "type": "web"}, 2),
        ("openegress_size_bytes", {"egress_id": "EG_1", "type": "web"}, 1000),
        ("openegress_sent_bytes", {"egress_id": "EG_1", "type": "web"}, 4000),
        ("openegress_media_seconds", {"egress_id": "EG_1", "type": "web"}, 2.5),
        ("openegress_cpu_cores", {"egress_id": "EG_1", "type": "web"}, 0.5),
    ],
)
async def test_a_worker_at_work(job: Job, name: str, labels: dict[str, str], expected: float) -> None:
    full = snapshot(
        load=Load(4.0, 4.0, 8 * GIB, 0),
        jobs=[job],
        draining=True,
        can_accept=False,
        usage={"EG_1": ProcessUsage(0.5, 300)},
    )
    assert value(Metrics("NE_1", "C", lambda: full), name, **labels) == expected
    await job.record.close()


def test_uploads_are_counted_by_content_type_and_outcome() -> None:
    metrics = Metrics("NE_1", "C", snapshot)
    for upload in (
        Uploaded("video/mp4", 40.0, size_bytes=100),
        Uploaded("video/mp4", 1500.0, size_bytes=200),
        Uploaded("video/mp4", 9000.0, stored=False, status=403),
        Uploaded("video/mp4", 9000.0, stored=False, status=503, custom_endpoint=True),
        Uploaded("video/mp4", 9000.0, stored=False),
        Uploaded("video/mp4", 30.0, size_bytes=400, on_backup=True),
        Uploaded("video/mp4", 30.0, stored=False, on_backup=True),
    ):
        metrics.count_upload(upload)
    uploads, time_ms = "livekit_egress_pipeline_uploads", "livekit_egress_pipline_upload_response_time_ms"
    success = {"type": "video/mp4", "status": "success", "custom_endpoint": "false"}
    assert value(metrics, uploads, **success) == 2
    for status, endpoint in (("4xx", "false"), ("5xx", "true"), ("internal", "false")):
        labels = {"type": "video/mp4", "status": status, "custom_endpoint": endpoint}
        assert value(metrics, uploads, **labels) == 1
    assert value(metrics, f"{time_ms}_count", **success) == 2
    assert value(metrics, f"{time_ms}_sum", **success) == 1540
    assert value(metrics, f"{time_ms}_bucket", **success, le="50.0") == 1
    assert value(metrics, f"{time_ms}_bucket", **success, le="2000.0") == 2
    assert value(metrics, "livekit_egress_backup_storage_writes", output_type="video/mp4") == 1
    assert value(metrics, "openegress_uploaded_bytes_total") == 700


@pytest.mark.parametrize(
    ("events", "result"),
    [
        ([], "process_error"),
        ([Ended(2, EndReason.API)], "aborted"),
        ([Active(1), Ended(2, EndReason.API)], "completed"),
        ([Active(1), Ended(2, EndReason.KILLED)], "killed_shutdown"),
        ([Active(1), Ended(2, EndReason.FAILURE, "x", "internal")], "process_error"),
        ([Active(1), Ended(2, EndReason.FAILURE, "x", "unavailable")], "failed"),
        ([Active(1), Ended(2, EndReason.FAILURE, "x", "aborted")], "duplicate_identity"),
    ],
)
async def test_how_egresses_ended(job: Job, events: list[Active | Ended], result: str) -> None:
    metrics = Metrics("NE_1", "C", snapshot)
    for event in events:
        job._take(event)
    metrics.count_end(job)
    assert value(metrics, "livekit_egress_handler_results_total", type="web", result=result) == 1
    await job.record.close()


async def test_one_whose_handler_was_killed_for_its_memory(job: Job) -> None:
    metrics = Metrics("NE_1", "C", snapshot)
    job.handlers.deaths.append(Death("killed by SIGKILL: memory ran out", of_memory=True))
    job._take(Ended(2, EndReason.FAILURE, "x", "internal", report=EndReport.MISSING))
    metrics.count_end(job)
    assert value(metrics, "livekit_egress_handler_results_total", type="web", result="killed_oom") == 1
    await job.record.close()


@pytest.mark.parametrize(
    ("container", "machine", "count"),
    [
        ("low 0\noom 3\noom_kill 2\n", "oom_kill 9\n", 2),
        ("oom_kill 0\n", "oom_kill 9\n", 0),
        (None, "nr_free_pages 5\noom_kill 9\n", 9),
        (None, None, 0),
    ],
)
def test_who_counts_what_the_kernel_killed(
    tmp_path: Path, container: str | None, machine: str | None, count: int
) -> None:
    paths = tmp_path / "memory.events", tmp_path / "vmstat"
    for path, text in zip(paths, (container, machine), strict=True):
        if text is not None:
            path.write_text(text)
    assert oom_kills(*paths) == count


async def test_an_egress_that_is_recovered_again_has_ended_once(tmp_path: Path, job: Job) -> None:
    metrics = Metrics("NE_1", "C", snapshot)
    again = Job(plan(), "web", job.record, lambda *_: None, had_ended=True)
    for each in (job, again, again):
        each._take(Ended(2, EndReason.FAILURE, "x", "internal"))
        metrics.count_end(each)
    assert value(metrics, "livekit_egress_handler_results_total", type="web", result="process_error") == 1
    await job.record.close()


async def test_uploads_pass_the_record_by(job: Job) -> None:
    told: list[object] = []
    job._on_observer_event = lambda _, event: told.append(event)
    before = job.record.info
    job._take(Uploaded("video/mp4", 1.0))
    assert told == [Uploaded("video/mp4", 1.0)]
    assert job.record.info is before
    await job.record.close()
