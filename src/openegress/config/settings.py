"""The settings of the service: upstream's egress configuration under its own names, and ours.

reference.yaml says what each one means. Everything has a default; a value of a nested block that is not
given keeps its default too. Settings are read once and never changed.
"""

import os
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import field

from openegress.config.room_keys import KeyServiceSettings, RoomKeySettings
from openegress.config.storages import StorageSettings
from openegress.core.block import Block
from openegress.core.values import Seconds, Secret
from openegress.request.options import OptionDefaults
from openegress.request.unknown import UnknownFields

# --- redis


class RedisTLS(Block, frozen=True):
    enabled: bool = False
    insecure: bool = False
    server_name: str = ""
    ca_cert_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""


class Redis(Block, frozen=True):
    """The connection to Redis: one server (`address`), sentinels, or a cluster; the same as
    livekit-server's."""

    address: str = ""
    username: str = ""
    password: Secret = Secret("")
    db: int = 0
    tls: RedisTLS = RedisTLS()
    sentinel_master_name: str = ""
    sentinel_username: str = ""
    sentinel_password: Secret = Secret("")
    sentinel_addresses: tuple[str, ...] = ()
    cluster_addresses: tuple[str, ...] = ()
    dial_timeout: int = 2000
    read_timeout: int = 5000
    write_timeout: int = 5000
    max_redirects: int = 2
    pool_timeout: Seconds = Seconds(0)
    pool_size: int = 0

    @property
    def configured(self) -> bool:
        return bool(self.address or self.sentinel_addresses or self.cluster_addresses)


# --- the rest of upstream's


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> "LogLevel | None":
        """Accepts upstream's other levels, in upper or lower case."""
        text = str(value).lower()
        text = {"warning": "warn", "dpanic": "error", "panic": "error", "fatal": "error"}.get(text, text)
        return cls(text) if text in cls._value2member_map_ else None


class Logging(Block, frozen=True):
    level: LogLevel = LogLevel.INFO
    json: bool = False
    component_levels: dict[str, LogLevel] = field(default_factory=dict)
    sample: bool = False
    sample_initial: int = 0
    sample_interval: int = 0
    item_sample_seconds: int = 0
    item_sample_initial: int = 0
    item_sample_interval: int = 0


class CPUCost(Block, frozen=True):
    """Cores and memory that a request is assumed to need (0: our own estimate, corrected by measurements),
    and limits."""

    max_cpu_utilization: float = 0.8
    max_memory: float = 0.0
    memory_cost: float = 0.0
    room_composite_cpu_cost: float = 0.0
    audio_room_composite_cpu_cost: float = 0.0
    sdk_audio_room_composite_cpu_cost: float = 0.0
    sdk_audio_room_composite_memory_cost: float = 0.0
    web_cpu_cost: float = 0.0
    audio_web_cpu_cost: float = 0.0
    participant_cpu_cost: float = 0.0
    track_composite_cpu_cost: float = 0.0
    track_cpu_cost: float = 0.0
    max_concurrent_web: int = 0
    max_composing: int = 0
    max_pulse_clients: int = 60
    memory_source: str = "cgroup"
    memory_kill_grace_sec: int = 0
    cpu_kill_grace_sec: int = 30


class SessionLimitSettings(Block, frozen=True):
    """Limits for the length of each kind of output, and for the size of a file. 0: no limit."""

    file_output_max_duration: Seconds = Seconds(0)
    file_output_max_size: int = 0
    stream_output_max_duration: Seconds = Seconds(0)
    segment_output_max_duration: Seconds = Seconds(0)
    image_output_max_duration: Seconds = Seconds(0)


class Debug(StorageSettings, frozen=True):
    """The storage for reports of failed egresses."""

    enable_profiling: bool = False
    enable_track_logging: bool = False
    enable_stream_logging: bool = False
    enable_chrome_logging: bool = False
    path_prefix: str = ""


class Latency(Block, frozen=True):
    jitter_buffer_latency: Seconds = Seconds(2)
    audio_mixer_latency: Seconds = Seconds(2.75)
    pipeline_latency: Seconds = Seconds(3)
    rtp_max_allowed_ts_diff: Seconds = Seconds(5)
    rtp_max_drift_adjustment: Seconds = Seconds(0.005)
    rtp_drift_adjustment_window_percent: float = 0.0
    old_packet_threshold: Seconds = Seconds(2.2)


class AudioTempoController(Block, frozen=True):
    enabled: bool = False
    adjustment_rate: float = 0.05


# --- ours


class Webhook(Block, frozen=True):
    """The receivers of events in standalone and own-cluster mode; the same as livekit-server's `webhook:`
    block."""

    urls: tuple[str, ...] = ()
    api_key: str = ""
    include_events: tuple[str, ...] = ()
    exclude_events: tuple[str, ...] = ()


class OverlaySettings(Block, frozen=True):
    """Pictures that options may name: paths by names."""

    logos: dict[str, str] = field(default_factory=dict)
    backgrounds: dict[str, str] = field(default_factory=dict)


class Queue(Block, frozen=True):
    """Requests that wait for a free worker instead of being refused."""

    size: int = 0
    max_wait: Seconds = Seconds(60)


class RetrySettings(Block, frozen=True):
    """How long to retry something before it counts as failed."""

    upload_for: Seconds = Seconds(6 * 3600)
    stream_for: Seconds = Seconds(300)
    webhook_for: Seconds = Seconds(24 * 3600)


class Timeouts(Block, frozen=True):
    page_load: Seconds = Seconds(30)
    start_signal: Seconds = Seconds(60)
    stop: Seconds = Seconds(30)


class AutoStartBlock(Block, frozen=True):
    """What is recorded without a request, in rooms with matching names."""

    rooms: tuple[str, ...] = ()
    egress: dict[str, Any] = field(default_factory=dict)
    """The requests to make, in the form of LiveKit's RoomEgress."""


CLOUD_METADATA = (
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254/128",
    "100.100.100.200/32",
    "168.63.129.16/32",
)
"""Networks in which clouds serve instance credentials: link-local (AWS, GCP, Azure), AWS over IPv6, Alibaba,
Azure."""


def new_node_id() -> str:
    return "NE_" + secrets.token_hex(6)


class SamePath(StrEnum):
    """What happens to a recording that would write to the path of another one."""

    REFUSE = "refuse"
    SUFFIX = "suffix"
    """The names of its files end in -<egress id>."""


class NoRoom(StrEnum):
    """The answer to a start that no worker has room for."""

    UNAVAILABLE = "unavailable"
    """HTTP status 503, which makes LiveKit's SDKs try again; upstream answers the same."""
    RESOURCE_EXHAUSTED = "resource_exhausted"
    """HTTP status 429."""


class PageUdp(StrEnum):
    """Whether pages may use WebRTC over UDP, which no proxy can filter."""

    AUTO = "auto"
    """They may as long as deny_networks names only networks with cloud credentials: nothing there speaks
    UDP."""
    ALLOW = "allow"
    DENY = "deny"


class Settings(Block, frozen=True):
    api_key: str = ""
    api_secret: Secret = Secret("")
    ws_url: str = ""
    redis: Redis = Redis()

    health_port: int = 0
    prometheus_port: int = 0
    template_port: int = 7980
    debug_handler_port: int = 0
    template_base: str = ""
    cluster_id: str = ""
    logging: Logging = Logging()
    enable_chrome_sandbox: bool | None = None
    insecure: bool = False
    chrome_flags: dict[str, str | bool | None] = field(default_factory=dict)
    cpu_cost: CPUCost = CPUCost()
    session_limits: SessionLimitSettings = SessionLimitSettings()
    options: OptionDefaults = OptionDefaults()
    overlays: OverlaySettings = OverlaySettings()
    layouts: dict[str, Any] = field(default_factory=dict)
    """Layouts by name: the path of a JSON file, or its content."""
    storage: StorageSettings = StorageSettings()
    backup: StorageSettings = StorageSettings()
    disallow_local_storage: bool = False
    s3_assume_role_key: str = ""
    s3_assume_role_secret: Secret = Secret("")
    s3_assume_role_arn: str = ""
    s3_assume_role_external_id: Secret = Secret("")
    max_upload_queue: int = 60
    io_create_timeout: Seconds = Seconds(15)
    io_update_timeout: Seconds = Seconds(30)
    io_selection_timeout: Seconds = Seconds(1)
    io_workers: int = 5
    debug: Debug = Debug()

    host: str = "0.0.0.0"
    port: int = 7980
    keys: dict[str, Secret] = field(default_factory=dict)
    data_dir: str = ""
    output_root: str = ""
    db: str = ""
    record_retention: Seconds = Seconds(7 * 24 * 3600)
    prewarmed_browsers: int | None = None
    page_max_memory: float = 4.0
    page_udp: PageUdp = PageUdp.AUTO
    room_max_memory: float = 2.0
    chromium: str = ""
    webhook: Webhook = Webhook()
    auto_start: tuple[AutoStartBlock, ...] = ()

    room_keys: tuple[RoomKeySettings, ...] = ()
    key_services: tuple[KeyServiceSettings, ...] = ()
    queue: Queue = Queue()
    retries: RetrySettings = RetrySettings()
    timeouts: Timeouts = Timeouts()
    storage_check: bool = True
    same_path: SamePath = SamePath.REFUSE
    unknown_fields: UnknownFields = UnknownFields.WARN
    no_room: NoRoom = NoRoom.UNAVAILABLE
    confine_handlers: bool = True
    deny_networks: tuple[str, ...] = CLOUD_METADATA

    latency: Latency = Latency()
    latency_overrides: dict[str, Latency] = field(default_factory=dict)
    video_encoder_threads: int = 0
    enable_one_shot_sender_report_sync: bool = False
    enable_sync_engine: bool = False
    audio_tempo_controller: AudioTempoController = AudioTempoController()
    pulse_sink_reap_grace_sec: int = 0
    test_overrides: dict[str, str] = field(default_factory=dict)

    @property
    def data_path(self) -> Path:
        """The folder for everything that must survive a restart."""
        if self.data_dir:
            return Path(self.data_dir).absolute()
        base = os.environ.get("XDG_DATA_HOME")
        return (Path(base).absolute() if base else Path.home() / ".local" / "share") / "openegress"

    @property
    def spool_path(self) -> Path:
        """The folder of recordings in progress, and of finished ones that no storage has confirmed yet."""
        return self.data_path / "spool"

    @property
    def output_path(self) -> Path:
        """The folder of files without another storage."""
        return Path(self.output_root).absolute() if self.output_root else self.data_path / "recordings"

    @property
    def db_path(self) -> Path:
        return Path(self.db) if self.db else self.data_path / "openegress.db"

    @property
    def all_keys(self) -> dict[str, Secret]:
        """API keys that may sign tokens and webhooks."""
        own = {self.api_key: self.api_secret} if self.api_key else {}
        return {**own, **self.keys}


NO_EFFECT = frozenset(
    {
        "audio_tempo_controller",
        "backup.s3.aws_log_level",
        "cpu_cost.cpu_kill_grace_sec",
        "cpu_cost.max_pulse_clients",
        "cpu_cost.memory_kill_grace_sec",
        "cpu_cost.memory_source",
        "debug.enable_chrome_logging",
        "debug.enable_stream_logging",
        "debug.enable_track_logging",
        "debug.generate_presigned_url",
        "debug.s3.aws_log_level",
        "debug_handler_port",
        "enable_one_shot_sender_report_sync",
        "enable_sync_engine",
        "io_workers",
        "latency",
        "latency_overrides",
        "logging.item_sample_initial",
        "logging.item_sample_interval",
        "logging.item_sample_seconds",
        "logging.sample",
        "logging.sample_initial",
        "logging.sample_interval",
        "max_upload_queue",
        "pulse_sink_reap_grace_sec",
        "storage.s3.aws_log_level",
        "test_overrides",
        "video_encoder_threads",
    }
)
"""Upstream's keys for parts that do not exist here. They are accepted, and `config check` reports them. A
recording's queue on disk is limited only by the disk. Equal warnings are always limited. Each recording shows
its state in the metrics, the log and on the dashboard."""
