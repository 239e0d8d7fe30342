"""Turns the configuration into what each part needs."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from openegress.api.rooms import TIMEOUT_S, LiveKitServer, RoomService
from openegress.config.destination import assume_role, local_folders, storage_plan
from openegress.config.layouts import layouts_of
from openegress.config.settings import CLOUD_METADATA, PageUdp, SamePath, Settings
from openegress.core import ipc
from openegress.core.errors import Code
from openegress.core.looks import PictureFiles
from openegress.core.room_keys import RoomKey
from openegress.core.room_patterns import fits
from openegress.core.tokens import recorder_token
from openegress.request.context import Context, SessionLimits
from openegress.request.naming import Distinct
from openegress.request.request_kind import RequestKind
from openegress.store.disk_leases import DiskLeases
from openegress.store.leases import Leases
from openegress.worker.admission import AdmissionLimits, Cost
from openegress.worker.config import RoomMetadata, WorkerConfig, no_metadata
from openegress.worker.cost import RATE_720P30, RATE_1080P60
from openegress.worker.job_keys import JobKeys
from openegress.worker.key_service import KeyServiceAddress, KeyServices

_MIB = 2**20
_GIB = 2**30

_COSTS: dict[RequestKind, tuple[float, int]] = {
    RequestKind.ROOM_COMPOSITE: (0.45, 180),
    RequestKind.ROOM_COMPOSITE_PAGE: (0.65, 550),
    RequestKind.WEB: (0.5, 500),
    RequestKind.AUDIO_WEB: (0.25, 400),
    RequestKind.PARTICIPANT: (0.45, 150),
    RequestKind.TRACK_COMPOSITE: (0.45, 150),
    RequestKind.AUDIO_ROOM_COMPOSITE: (0.06, 80),
    RequestKind.TRACK: (0.03, 70),
    RequestKind.ROOM_TRACKS: (0.1, 80),
}
"""Cores and MiB at 720p30, measured (bench/RESULTS.md); cpu_cost in the configuration overrides them."""


def handler_settings(settings: Settings) -> ipc.HandlerSettings:
    return ipc.HandlerSettings(
        spool=str(settings.spool_path),
        browser=ipc.BrowserSettings(
            chromium=settings.chromium,
            flags=dict(settings.chrome_flags),
            sandbox=settings.enable_chrome_sandbox,
            insecure=settings.insecure,
            deny_networks=settings.deny_networks,
            own_ports=own_ports(settings),
            udp=page_udp(settings),
            udp_pages=(settings.template_base,) if settings.template_base else (),
            memory_bytes=int(settings.page_max_memory * _GIB),
        ),
        page_load_timeout_s=float(settings.timeouts.page_load),
        start_signal_timeout_s=float(settings.timeouts.start_signal),
        stop_timeout_s=float(settings.timeouts.stop),
        stream_retry_s=float(settings.retries.stream_for),
        log_level=settings.logging.level.value.replace("warn", "warning"),
        room_memory_bytes=int(settings.room_max_memory * _GIB),
        confined=settings.confine_handlers,
    )


def page_udp(settings: Settings) -> bool:
    match settings.page_udp:
        case PageUdp.ALLOW:
            return True
        case PageUdp.DENY:
            return False
        case PageUdp.AUTO:
            return set(settings.deny_networks) <= set(CLOUD_METADATA)


def own_ports(settings: Settings) -> tuple[int, ...]:
    """Where this service listens."""
    ports = (settings.port, settings.template_port, settings.health_port, settings.prometheus_port)
    return tuple(sorted({port for port in ports if port}))


def room_service(settings: Settings, timeout_s: float = TIMEOUT_S) -> RoomService | None:
    """None: no LiveKit server is configured, so only web pages can be recorded."""
    if not (settings.ws_url and settings.api_key):
        return None
    secret = settings.api_secret.reveal()
    server = LiveKitServer(settings.ws_url, settings.api_key, secret, insecure=settings.insecure)
    return RoomService(server, timeout_s)


def worker_config(settings: Settings, room_metadata: RoomMetadata = no_metadata) -> WorkerConfig:
    return WorkerConfig(
        context=context_maker(settings),
        costs=costs(settings),
        limits=AdmissionLimits(
            settings.cpu_cost.max_cpu_utilization,
            int(settings.cpu_cost.max_memory * _GIB),
            Code(settings.no_room.value),
        ),
        max_browsers=settings.cpu_cost.max_concurrent_web,
        cluster_id=settings.cluster_id,
        same_path=Distinct.ALL if settings.same_path is SamePath.SUFFIX else Distinct.UNNAMED,
        room_metadata=room_metadata,
    )


def pictures_of(settings: Settings) -> PictureFiles:
    return PictureFiles(settings.overlays.logos, settings.overlays.backgrounds)


def keys_of(settings: Settings) -> Callable[[str], tuple[RoomKey, ...]]:
    """The configured keys of a room by its name: for each index and participants, the first matching
    entry."""

    def find(room_name: str) -> tuple[RoomKey, ...]:
        found: dict[tuple[int, tuple[str, ...]], RoomKey] = {}
        for each in settings.room_keys:
            if fits(room_name, each.rooms):
                key = RoomKey(each.index, each.material, each.derivation, each.identities)
                found.setdefault((key.index, key.identities), key)
        return tuple(found.values())

    return find


def key_services(settings: Settings, count: Callable[[str], None]) -> KeyServices:
    """`count`: see KeyServices."""
    keys = settings.all_keys
    default = settings.api_key or next(iter(keys), "")
    addresses = [
        KeyServiceAddress(each.rooms, each.url, each.api_key or default, float(each.timeout))
        for each in settings.key_services
    ]
    return KeyServices(addresses, keys, count)


def job_keys(settings: Settings, services: KeyServices) -> Callable[[str], JobKeys]:
    """The key service of a room, by its name."""
    configured = keys_of(settings)

    def find(room_name: str) -> JobKeys:
        ask = services.ask if services.serves(room_name) else None
        return JobKeys(configured(room_name), ask)

    return find


def costs(settings: Settings) -> dict[RequestKind, Cost]:
    configured = settings.cpu_cost
    cores = {
        RequestKind.ROOM_COMPOSITE: configured.room_composite_cpu_cost,
        RequestKind.ROOM_COMPOSITE_PAGE: configured.room_composite_cpu_cost,
        RequestKind.WEB: configured.web_cpu_cost,
        RequestKind.AUDIO_WEB: configured.audio_web_cpu_cost,
        RequestKind.PARTICIPANT: configured.participant_cpu_cost,
        RequestKind.TRACK_COMPOSITE: configured.track_composite_cpu_cost,
        RequestKind.AUDIO_ROOM_COMPOSITE: (
            configured.sdk_audio_room_composite_cpu_cost or configured.audio_room_composite_cpu_cost
        ),
        RequestKind.TRACK: configured.track_cpu_cost,
        # Upstream has no such kind: it has the key of tracks that are stored as they are.
        RequestKind.ROOM_TRACKS: configured.track_cpu_cost,
    }
    memory_gb = dict.fromkeys(RequestKind, configured.memory_cost)
    if configured.sdk_audio_room_composite_memory_cost:
        memory_gb[RequestKind.AUDIO_ROOM_COMPOSITE] = configured.sdk_audio_room_composite_memory_cost
    return {
        kind: Cost(
            cores[kind] or own,
            int(memory_gb[kind] * _GIB) or mib * _MIB,
            RATE_1080P60 if cores[kind] else RATE_720P30,
        )
        for kind, (own, mib) in _COSTS.items()
    }


def context_maker(settings: Settings) -> Callable[[], Context]:
    """What the server adds to a request. Made afresh for each, as it includes the time."""
    storage = storage_plan(settings)
    role = assume_role(settings)
    limits = settings.session_limits
    session_limits = SessionLimits(
        file_s=float(limits.file_output_max_duration),
        stream_s=float(limits.stream_output_max_duration),
        segments_s=float(limits.segment_output_max_duration),
        images_s=float(limits.image_output_max_duration),
        file_bytes=limits.file_output_max_size,
    )

    def make_token(egress_id: str, room_name: str) -> str:
        return recorder_token(settings.api_key, settings.api_secret.reveal(), room_name, egress_id)

    pictures, own_layouts = pictures_of(settings), layouts_of(settings)

    def make() -> Context:
        return Context(
            now_ns=time.time_ns(),
            storage=storage,
            assume_role=role,
            ws_url=settings.ws_url,
            template_base=settings.template_base,
            make_token=make_token if settings.api_key else None,
            allow_local=not settings.disallow_local_storage,
            zone=datetime.now().astimezone().tzinfo or UTC,
            limits=session_limits,
            options=settings.options,
            pictures=pictures,
            layouts=own_layouts,
            deny_networks=settings.deny_networks,
            unknown_fields=settings.unknown_fields,
            insecure=settings.insecure,
        )

    return make


def path_leases(settings: Settings, others: Leases, *, is_guest: bool = False) -> DiskLeases:
    """What recordings write to. Other workers learn of it by `others`, and services that share a disk with us
    by locks. `is_guest`: a single recording, which leaves no file behind where no service has locks."""
    roots = [Path(folder.root) for folder in local_folders(settings)]
    return DiskLeases(others, roots, settings.data_path, is_guest=is_guest)
