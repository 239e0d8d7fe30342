"""Messages between a worker and its handler processes: MessagePack with a 4-byte big-endian length.

The socket is handed over, so secrets in a Plan never show in argv or the environment.
"""

import signal
from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from openegress.core.clip_plan import ClipMade, ClipPlan, ClipStored
from openegress.core.codecs import Container
from openegress.core.events import AnyEvent
from openegress.core.live_state import LiveState
from openegress.core.plan import Plan, StreamTarget
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey

STACKS_SIGNAL = signal.SIGUSR1
"""A handler answers it, whatever it does, with the stacks of its threads on standard error."""

PROXY_FLAGS = ("proxy-server", "proxy-pac-url", "proxy-auto-detect", "no-proxy-server")


class BrowserSettings(msgspec.Struct, frozen=True):
    """How a handler starts its browser."""

    chromium: str = ""
    """Path of the binary; empty: search."""
    flags: dict[str, str | bool | None] = {}
    sandbox: bool | None = None
    """None: where the machine allows it."""
    insecure: bool = False
    """Accept any TLS certificate, and pages and connections without TLS (test templates)."""
    user: str = ""
    """Unprivileged user the browser runs as when the service is root; empty: made or found by the handler."""
    deny_networks: tuple[str, ...] = ()
    """CIDR networks a recorded page may not be loaded from; where flags name a proxy, that decides."""
    own_ports: tuple[int, ...] = ()
    """Where this service listens: a page does not reach them on this machine's addresses."""
    udp: bool = True
    """Pages may speak WebRTC over UDP, which nobody judges."""
    udp_pages: tuple[str, ...] = ()
    """URLs of pages that may whatever `udp` says: the operator's own."""
    memory_bytes: int = 0
    """What the browser of one page may take; 0: as much as there is."""


def own_proxy(flags: Mapping[str, str | bool | None]) -> str:
    """The one of the browser's flags that names a way to pages other than ours; "" for none."""
    return next((name for name in PROXY_FLAGS if any(flags.get(dashes + name) for dashes in ("", "--"))), "")


class HandlerSettings(msgspec.Struct, frozen=True):
    """The part of the configuration a handler needs, the same for every egress."""

    spool: str
    """Folder under which each egress has one of its own, named by its id."""
    browser: BrowserSettings = BrowserSettings()
    page_load_timeout_s: float = 30.0
    start_signal_timeout_s: float = 60.0
    stop_timeout_s: float = 30.0
    stream_retry_s: float = 300.0
    """How long a stream that was up is dialled again before it counts as failed."""
    log_level: str = "info"
    room_memory_bytes: int = 0
    """From which on a recording of a room gives up media that wait, and then videos; 0: never."""
    confined: bool = True
    """A recording gives up what it has no use for (handler.cage)."""


# --- worker -> handler


class Environment(msgspec.Struct, frozen=True, tag="environment"):
    """Before Warm: the service's own variables that say who it is to a cloud. Uploads run in the handler, so
    it needs them, but not where /proc shows them or its browser would inherit them."""

    variables: dict[str, str]


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """How to work. With a width: on a request that will need a browser of that size."""

    settings: HandlerSettings
    width: int = 0
    height: int = 0
    framerate: int = 0


class KeysFrom(StrEnum):
    """Where the keys of an encrypted room are."""

    CONFIGURATION = "configuration"
    """All of them are in Run."""
    SERVICE = "service"
    """AskKeys gets those that are missing."""


class Run(msgspec.Struct, frozen=True, tag="run"):
    plan: Plan
    room_keys: tuple[RoomKey, ...] = ()
    """Of its room, should that be encrypted end to end. The plan is kept on the disk, and these are not."""
    keys_from: KeysFrom = KeysFrom.CONFIGURATION
    resumes: bool = False
    """Another handler has begun, and left what it recorded in the spool."""
    seal: str = ""
    """Of the plan, for the journal: without it no later worker believes that it is its own."""


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """Finish what a handler that died left in its spool folder: finalise, upload, report."""

    plan: Plan


class MakeClip(msgspec.Struct, frozen=True, tag="make_clip"):
    """Make a clip of what another handler records, or has stored."""

    plan: ClipPlan


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    reason: str
    """An events.EndReason."""


class UpdateStreams(msgspec.Struct, frozen=True, tag="update_streams"):
    call: int
    add: tuple[StreamTarget, ...]
    remove: tuple[str, ...]


class Obey(msgspec.Struct, frozen=True, tag="obey"):
    call: int
    order: str
    """Text of request.orders."""


class NamesClaimed(msgspec.Struct, frozen=True, tag="names_claimed"):
    """Answer to ClaimNames, or to ClaimClip. Empty code: the names are the recording's, or the clip's."""

    mark: str = ""
    """What goes behind each name, as another recording has them without it."""
    code: str = ""
    error: str = ""


class Turn(msgspec.Struct, frozen=True, tag="turn"):
    """Answer to AskTurn, when it has come; and again whenever it changes how many wait."""

    behind: int = 0
    """Recordings that wait for each that is composed."""


class KeysGiven(msgspec.Struct, frozen=True, tag="keys_given"):
    """Answer to AskKeys. Empty error: this is what the key service said."""

    call: int
    answer: KeyAnswer = KeyAnswer()
    error: str = ""


ToHandler = (
    Environment
    | Warm
    | Run
    | Recover
    | MakeClip
    | Stop
    | UpdateStreams
    | Obey
    | NamesClaimed
    | Turn
    | KeysGiven
    | ClipStored
)


# --- handler -> worker


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The handler waits for a Run."""


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """Answer to UpdateStreams, after a StreamAdded for each URL that was taken, or to Obey, after what came
    of it. Empty code: done."""

    call: int
    code: str = ""
    error: str = ""


class Log(msgspec.Struct, frozen=True, tag="log"):
    level: str
    event: str
    fields: dict[str, str | int | float | bool | None]


class ClaimNames(msgspec.Struct, frozen=True, tag="claim_names"):
    """The room has told what placeholders of file names stand for: may these names be written?"""

    values: dict[str, str]
    container: Container | None = None
    """Of a file that has none in the plan, as its track decides."""


class ClaimClip(msgspec.Struct, frozen=True, tag="claim_clip"):
    """A clip is cut: may this path be written? The answer is NamesClaimed, without a mark."""

    path: str


class AskTurn(msgspec.Struct, frozen=True, tag="ask_turn"):
    """What was recorded is to be composed: when may that begin? The turn lasts as long as the handler."""


class AskKeys(msgspec.Struct, frozen=True, tag="ask_keys"):
    """Of the room's key service, which only the worker reaches."""

    call: int
    question: KeyQuestion


ToWorker = Ready | Reply | Log | ClaimNames | ClaimClip | AskTurn | AskKeys | ClipMade | LiveState | AnyEvent


# --- the process that forks handlers -> worker, each a datagram


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The oldest request that was not answered is: a handler runs. Its pidfd comes with this (SCM_RIGHTS)."""

    pid: int


class NotForked(msgspec.Struct, frozen=True, tag="not_forked"):
    """It is not: there is no room for one more process, or no memory."""

    errno: int
    why: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    pid: int
    status: int
    """Negative: of a signal."""


FromForks = Forked | NotForked | Exited

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Framer:
    """Splits a byte stream into messages; feed() what was read, get what is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises ValueError on a length beyond MAX_MESSAGE_BYTES: the peer does not speak this protocol."""
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > MAX_MESSAGE_BYTES:
                raise ValueError(f"message of {size} bytes between worker and handler")
            if len(self._buffer) < 4 + size:
                return
            message = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            yield message


def frame(message: ToHandler | ToWorker) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body
