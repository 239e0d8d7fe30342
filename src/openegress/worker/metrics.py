"""The Prometheus metrics: with upstream's names, so that dashboards keep working, and our own."""

from collections import Counter as TallyCounter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from openegress.core.codecs import EncoderSpeed
from openegress.core.errors import Code
from openegress.core.events import EndReason, Progress, Uploaded
from openegress.core.info import is_paused
from openegress.request.request_kind import REQUEST_TYPES, RequestKind, request_type
from openegress.worker.admission import AdmissionLimits, Load
from openegress.worker.bus_metrics import BusMetrics
from openegress.worker.job import Job
from openegress.worker.usage import ProcessUsage

_UPLOAD_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 20_000, 30_000)
"""Upstream's buckets of upload times."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worker at the moment of a scrape."""

    load: Load
    jobs: list[Job]
    draining: bool
    can_accept: bool
    """Whether there is room for one more room composite."""
    usage: dict[str, ProcessUsage]
    """The usage of each recording by egress id."""
    limits: AdmissionLimits


class Metrics:
    """The metrics of one worker. Call render() for the metrics port, and count_end() when an egress has
    ended."""

    def __init__(self, node_id: str, cluster_id: str, look: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self.bus = BusMetrics(node_id, self._registry)
        self._labels = {"node_id": node_id, "cluster_id": cluster_id}
        self._ends = Counter(
            "livekit_egress_handler_results",
            "Ended egresses, by result",
            ["type", "result", *self._labels],
            registry=self._registry,
        )
        self._upload_ms = Histogram(
            "livekit_egress_pipline_upload_response_time_ms",
            "Time until an object was stored or given up",
            ["type", "status", "custom_endpoint", *self._labels],
            buckets=_UPLOAD_MS,
            registry=self._registry,
        )
        self._uploaded_bytes = Counter(
            "openegress_uploaded_bytes",
            "Sent to storages",
            [*self._labels],
            registry=self._registry,
        )
        self._restarts = Counter(
            "openegress_restarts",
            "Recordings that resumed after their process had died",
            [*self._labels],
            registry=self._registry,
        )
        self._left_out = Counter(
            "openegress_left_out",
            "Lost packets, unusable pictures, seconds of tracks; pictures that were not encoded",
            ["what", *self._labels],
            registry=self._registry,
        )
        self._key_answers = Counter(
            "openegress_key_service_answers",
            "Answers of key services of encrypted rooms: given, none, failed",
            ["result", *self._labels],
            registry=self._registry,
        )
        self._uploads = _Tally(
            "livekit_egress_pipeline_uploads",
            "Objects that were stored or given up, by content type",
            ["type", "status", "custom_endpoint", *self._labels],
        )
        self._backups = _Tally(
            "livekit_egress_backup_storage_writes",
            "Objects that went to the backup storage, by content type",
            ["output_type", *self._labels],
        )
        self._registry.register(self._uploads)
        self._registry.register(self._backups)
        self._registry.register(_Scrape(self._labels, look))
        # of this process, with the names that every Prometheus client uses
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def count_end(self, job: Job) -> None:
        """Counts the end of an egress, once, however often its recovery is tried."""
        if job.had_ended:
            return
        left_out = job.left_out
        for what, count in (
            ("lost_packets", sum(track.lost_packets for track in left_out.tracks)),
            ("unusable_pictures", sum(track.unusable_pictures for track in left_out.tracks)),
            ("pictures", left_out.pictures),
            ("track_seconds", sum(track.left_out_ms for track in left_out.tracks) / 1000),
            ("quicker_seconds", sum(each.ms for each in left_out.quicker) / 1000),
        ):
            self._left_out.labels(what=what, **self._labels).inc(count)
        kind = request_type(job.record.info)
        self._ends.labels(type=kind, result=result_of(job), **self._labels).inc()

    def count_key_answer(self, result: str) -> None:
        self._key_answers.labels(result=result, **self._labels).inc()

    def count_restart(self) -> None:
        self._restarts.labels(**self._labels).inc()

    def count_upload(self, upload: Uploaded) -> None:
        """Counts an upload, summed over egresses: metrics of one egress would disappear with it, mostly
        before they are read."""
        kind, ours = upload.content_type, tuple(self._labels.values())
        if upload.on_backup:
            if upload.stored:
                self._backups.count(kind, *ours)
        else:
            labels = (kind, _status(upload), str(upload.custom_endpoint).lower(), *ours)
            self._uploads.count(*labels)
            self._upload_ms.labels(*labels).observe(upload.elapsed_ms)
        self._uploaded_bytes.labels(*ours).inc(upload.size_bytes)


class _Tally(Collector):
    """A counter with upstream's name, without the suffix that the library would add."""

    def __init__(self, name: str, text: str, labels: list[str]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts: TallyCounter[tuple[str, ...]] = TallyCounter()

    def count(self, *values: str) -> None:
        self._counts[values] += 1

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        family = UntypedMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


def _status(upload: Uploaded) -> str:
    """Upstream's word for the result of an upload."""
    if upload.stored:
        return "success"
    return {4: "4xx", 5: "5xx"}.get(upload.status // 100, "internal")


def result_of(job: Job) -> str:
    """Upstream's word for how an egress ended."""
    ended = job.ended
    if any(death.of_memory for death in job.handlers.deaths):
        return "killed_oom"
    if ended is None:
        return "process_error"
    if job.active_s is None and not ended.code:
        return "aborted"
    if ended.reason is EndReason.KILLED:
        return "killed_shutdown"
    if ended.code == Code.INTERNAL.value:
        return "process_error"
    if ended.code == Code.ABORTED.value:
        return "duplicate_identity"
    return "failed" if ended.code else "completed"


class _Scrape(Collector):
    """Computes gauges at each scrape."""

    def __init__(self, labels: dict[str, str], look: Callable[[], Snapshot]) -> None:
        self._names = list(labels)
        self._values = list(labels.values())
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        now = self._look()
        load = now.load
        yield self._gauge("livekit_egress_available", "1 while no egress runs", not now.jobs)
        yield self._gauge("livekit_egress_can_accept_request", "1 with room for one more", now.can_accept)
        yield self._gauge("livekit_egress_is_disabled", "1 when switched off", False)
        yield self._gauge("livekit_egress_is_terminating", "1 while draining", now.draining)
        yield self._gauge("livekit_egress_cgroup_memory_bytes", "Memory in use", _used_bytes(load))
        yield self._gauge("livekit_egress_cgroup_read_success", "1 when it could be read", load.in_cgroup)
        yield self._gauge(
            "livekit_egress_would_reject_cgroup", "1 without memory for more", load.free_memory_bytes <= 0
        )
        yield self._gauge(
            "livekit_egress_proc_rss_bytes", "Of all recordings", sum(u.rss_bytes for u in now.usage.values())
        )
        yield self._gauge("livekit_egress_pulse_sinks", "Sound servers", _browsers(now.jobs))
        yield self._gauge(
            "livekit_node_cpu_load", "Share of the cores in use", _ratio(load), {"node_type": "EGRESS"}
        )
        ratio = GaugeMetricFamily(
            "livekit_load_ratio", "Share in use of what egresses may take", labels=["type", *self._names]
        )
        limits = now.limits
        ratio.add_metric(["cpu", *self._values], _ratio(load) / max(limits.cpu_utilization, 0.01))
        memory = _used_bytes(load) / max(1, min(load.memory_bytes, limits.memory_bytes or load.memory_bytes))
        ratio.add_metric(["memory", *self._values], memory)
        yield ratio
        requests = GaugeMetricFamily(
            "livekit_egress_requests", "Running egresses, by type", labels=["type", *self._names]
        )
        running = TallyCounter(request_type(job.record.info) for job in now.jobs)
        for kind in REQUEST_TYPES:
            requests.add_metric([kind, *self._values], running[kind])
        yield requests
        yield from self._each(now)

    def _each(self, now: Snapshot) -> Iterable[Metric]:
        """Yields metrics with one value for each egress."""
        table: dict[str, tuple[str, Callable[[Job], float]]] = {
            "openegress_fps": ("Frames a second", _told(lambda progress: progress.fps)),
            "openegress_dropped_frames": (
                "Frames dropped so far",
                _told(lambda progress: progress.dropped_frames),
            ),
            "openegress_queue_frames": (
                "Frames waiting for the encoder",
                _told(lambda progress: progress.queue),
            ),
            "openegress_encoder_speed": (
                "Speed of the encoder: 0 veryfast, 1 superfast, 2 ultrafast",
                _told(lambda progress: _SPEEDS[progress.speed] if progress.speed else 0),
            ),
            "openegress_size_bytes": ("Recorded so far", _told(lambda progress: progress.size_bytes)),
            "openegress_media_seconds": ("Media time", _told(lambda progress: progress.media_ns / 1e9)),
            "openegress_sent_bytes": (
                "Sent to streams and storages so far",
                _told(lambda progress: progress.sent_bytes),
            ),
            "livekit_egress_segments_uploads_channel_size": (
                "Segments and images that wait to be stored",
                _told(lambda progress: progress.waiting_uploads),
            ),
            "livekit_egress_playlist_uploads_channel_size": (
                "Playlists never wait here: each is written again after its segments",
                lambda job: 0,
            ),
            "openegress_paused": ("1 while paused", lambda job: is_paused(job.record.info)),
            "openegress_composed_ratio": (
                "How much of a deferred recording is composed",
                lambda job: (job.composing.percent or 0) / 100 if job.composing is not None else 0,
            ),
            "openegress_cpu_cores": (
                "Cores in use",
                lambda job: now.usage[job.plan.egress_id].cores if job.plan.egress_id in now.usage else 0,
            ),
        }
        for name, (text, value) in table.items():
            family = GaugeMetricFamily(name, text, labels=["egress_id", "type", *self._names])
            for job in now.jobs:
                family.add_metric([job.plan.egress_id, job.kind, *self._values], value(job))
            yield family

    def _gauge(
        self, name: str, text: str, value: float, extra: dict[str, str] | None = None
    ) -> GaugeMetricFamily:
        extra = extra or {}
        family = GaugeMetricFamily(name, text, labels=[*extra, *self._names])
        family.add_metric([*extra.values(), *self._values], float(value))
        return family


_SPEEDS = {EncoderSpeed.VERYFAST: 0, EncoderSpeed.SUPERFAST: 1, EncoderSpeed.ULTRAFAST: 2}


def _used_bytes(load: Load) -> int:
    return load.memory_bytes - load.free_memory_bytes


def _ratio(load: Load) -> float:
    return load.used_cores / max(load.cores, 0.01)


def _browsers(jobs: list[Job]) -> int:
    return sum(RequestKind(job.kind).needs_browser for job in jobs)


def _told(read: Callable[[Progress], float]) -> Callable[[Job], float]:
    """Reads a value of a job's last progress; 0 before there is any."""
    return lambda job: read(job.progress) if job.progress is not None else 0
