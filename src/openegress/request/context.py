"""Holds what the server adds to every request: its storage, its credentials, its limits, the time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from openegress.core.layout_spec import LayoutSpec
from openegress.core.looks import PictureFiles
from openegress.core.storages import StoragePlan
from openegress.request.destinations import AssumeRole
from openegress.request.naming import Distinct
from openegress.request.options import OptionDefaults
from openegress.request.unknown import UnknownFields

METADATA_NETWORKS = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
"""Networks in which clouds give credentials to anybody who asks."""
METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The server's limits for each kind of output. Seconds and bytes; 0: none."""

    file_s: float = 0.0
    stream_s: float = 0.0
    segments_s: float = 0.0
    images_s: float = 0.0
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What the server adds to every request."""

    now_ns: int
    storage: StoragePlan
    """The server's own storage; LocalStorage(output root) if none is configured."""
    assume_role: AssumeRole = field(default_factory=AssumeRole)
    ws_url: str = ""
    template_base: str = ""
    """URL of the page that lays out rooms if a request names none; empty: rooms are laid out without a
    page."""
    insecure: bool = False
    """Whether any certificate of a LiveKit server is accepted."""
    make_token: Callable[[str, str], str] | None = None
    """Makes a recorder's token from the egress id and the room name; None: no API key is configured."""
    allow_local: bool = True
    zone: tzinfo = UTC
    """The server's time zone, for {time}."""
    limits: SessionLimits = field(default_factory=SessionLimits)
    options: OptionDefaults = field(default_factory=OptionDefaults)
    """Options that apply if a request leaves them open."""
    pictures: PictureFiles = field(default_factory=PictureFiles)
    """Pictures that options may name."""
    layouts: tuple[LayoutSpec, ...] = ()
    """The operator's own layouts."""
    room_metadata: str = ""
    """Metadata of the room, which may contain options."""
    unknown_fields: UnknownFields = UnknownFields.WARN
    distinct: Distinct = Distinct.NONE
    """Which names contain the egress' id."""
    deny_networks: tuple[str, ...] = METADATA_NETWORKS
    """CIDR networks that no recorded page may lie in, if its URL names an address."""
