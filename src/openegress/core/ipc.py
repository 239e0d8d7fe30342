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
from openegress.core.live_streams import AddedTarget
from openegress.core.plan import Plan, StreamTarget
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey

STACKS_SIGNAL = signal.SIGUSR1
"""Whatever a handler is doing, it answers this by writing the stacks of its threads to standard error."""

PROXY_FLAGS = ("proxy-server", "proxy-pac-url", "proxy-auto-detect", "no-proxy-server")


class BrowserSettings(msgspec.Struct, frozen=True):
    """How a handler starts its browser."""

    chromium: str = ""
    """Path of the binary; empty: search."""
    flags: dict[str, str | bool | None] = {}
    sandbox: bool | None = None
    """None: only where the machine supports it."""
    insecure: bool = False
    """Accept any TLS certificate, and pages and connections without TLS (for testing templates)."""
    user: str = ""
    """Unprivileged user that runs the browser when the service is root; empty: the handler finds or creates
    one."""
    deny_networks: tuple[str, ...] = ()
    """CIDR networks from which no recorded page may load. Where flags name a proxy, the proxy decides."""
    own_ports: tuple[int, ...] = ()
    """Where this service listens: a page cannot reach these on this machine's addresses."""
    udp: bool = True
    """Pages may use WebRTC over UDP, which cannot be filtered."""
    udp_pages: tuple[str, ...] = ()
    """URLs of the operator's own pages, which may use UDP whatever `udp` says."""
    memory_bytes: int = 0
    """Memory limit for the browser of one page; 0: no limit."""


def own_proxy(flags: Mapping[str, str | bool | None]) -> str:
    """The browser flag that names a way past our proxy; "": there is none."""
    return next((name for name in PROXY_FLAGS if any(flags.get(dashes + name) for dashes in ("", "--"))), "")


class HandlerSettings(msgspec.Struct, frozen=True):
    """The part of the configuration a handler needs, the same for every egress."""

    spool: str
    """Each egress has a folder in it, named by its id."""
    browser: BrowserSettings = BrowserSettings()
    page_load_timeout_s: float = 30.0
    start_signal_timeout_s: float = 60.0
    stop_timeout_s: float = 30.0
    stream_retry_s: float = 300.0
    """How long to redial a stream that was up before it counts as failed."""
    log_level: str = "info"
    room_memory_bytes: int = 0
    """Memory above which a recording of a room drops queued media, and then videos; 0: never."""
    confined: bool = True
    """A recording drops the rights that it does not need (handler.cage)."""


# --- worker -> handler


class Environment(msgspec.Struct, frozen=True, tag="environment"):
    """Comes before Warm: the service's own environment variables that identify it to a cloud. Uploads run in
    the handler, so it needs them, but neither /proc may show them nor its browser inherit them."""

    variables: dict[str, str]


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """The handler's settings. With a width: prepare for a request that needs a browser of that size."""

    settings: HandlerSettings
    width: int = 0
    height: int = 0
    framerate: int = 0


class KeysFrom(StrEnum):
    """Where the keys of an encrypted room are."""

    CONFIGURATION = "configuration"
    """All of them are in Run."""
    SERVICE = "service"
    """AskKeys asks for missing ones."""


class Run(msgspec.Struct, frozen=True, tag="run"):
    plan: Plan
    room_keys: tuple[RoomKey, ...] = ()
    """Keys of its room, in case it is encrypted end to end. The plan is written to disk; the keys are not."""
    keys_from: KeysFrom = KeysFrom.CONFIGURATION
    resumes: bool = False
    """Another handler has begun, and left what it recorded in the spool."""
    seal: str = ""
    """The seal of the plan, for the journal: without it, no later worker recognises the plan as its own."""


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """Finish what a dead handler left in its spool folder: finalise, upload, report."""

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


class ApplyOrder(msgspec.Struct, frozen=True, tag="apply_order"):
    call: int
    order: str
    """Text of request.orders."""


class NamesClaimed(msgspec.Struct, frozen=True, tag="names_claimed"):
    """The answer to ClaimNames and ClaimClip. Empty code: the names now belong to the recording, or to the
    clip."""

    mark: str = ""
    """The suffix for each name, if another recording has the names without it."""
    seal: str = ""
    """The seal of the names, for the journal: without it, no later worker puts files in their places."""
    code: str = ""
    error: str = ""


class Turn(msgspec.Struct, frozen=True, tag="turn"):
    """Answer to AskTurn, when it has come; and again whenever it changes how many wait."""

    behind: int = 0
    """Recordings that wait for each that is composed."""


class KeysGiven(msgspec.Struct, frozen=True, tag="keys_given"):
    """The answer to AskKeys. Empty error: this is what the key service answered."""

    call: int
    answer: KeyAnswer = KeyAnswer()
    error: str = ""


class FilePut(msgspec.Struct, frozen=True, tag="file_put"):
    """The answer to PutFile. Empty code: the file is in its place."""

    call: int
    code: str = ""
    error: str = ""
    fault: str = ""
    """An errors.Fault."""


ToHandler = (
    Environment
    | Warm
    | Run
    | Recover
    | MakeClip
    | Stop
    | UpdateStreams
    | ApplyOrder
    | NamesClaimed
    | Turn
    | KeysGiven
    | FilePut
    | ClipStored
)


# --- handler -> worker


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The handler waits for a Run."""


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The answer to UpdateStreams, after a StreamAdded for each accepted URL; or to ApplyOrder, after its
    events. Empty code: done."""

    call: int
    code: str = ""
    error: str = ""


class Log(msgspec.Struct, frozen=True, tag="log"):
    level: str
    event: str
    fields: dict[str, str | int | float | bool | None]


class ClaimNames(msgspec.Struct, frozen=True, tag="claim_names"):
    """The room has provided the values of placeholders in file names. May these names be written?"""

    values: dict[str, str]
    container: Container | None = None
    """The container of a file whose track decides it."""


class ClaimClip(msgspec.Struct, frozen=True, tag="claim_clip"):
    """A clip is cut. May this path be written? The answer is NamesClaimed, without a mark."""

    path: str


class AskTurn(msgspec.Struct, frozen=True, tag="ask_turn"):
    """The recording is to be composed. When may that begin? The turn lasts until the handler ends."""


class AskKeys(msgspec.Struct, frozen=True, tag="ask_keys"):
    """A question to the room's key service, which only the worker can reach."""

    call: int
    question: KeyQuestion


MAX_PUTS = 4
"""Limit for the files of one handler that are being put in their places."""


class PutFile(msgspec.Struct, frozen=True, tag="put_file"):
    """A file is to be put in its place in a local storage, where only the worker may write."""

    call: int
    local: str
    """Path below the folder of the egress in the spool."""
    root: str
    """The root of the local storage."""
    path: str
    """Path in the storage, with the prefix of the plan."""


ToWorker = (
    Ready
    | Reply
    | Log
    | ClaimNames
    | ClaimClip
    | AskTurn
    | AskKeys
    | PutFile
    | ClipMade
    | LiveState
    | AddedTarget
    | AnyEvent
)


# --- the process that forks handlers -> worker, each a datagram


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The oldest unanswered request succeeded: a handler runs. Its pidfd comes with this message
    (SCM_RIGHTS)."""

    pid: int


class NotForked(msgspec.Struct, frozen=True, tag="not_forked"):
    """The oldest unanswered request failed: no process could be created, or memory is short."""

    errno: int
    why: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    pid: int
    status: int
    """Negative: the signal that ended it."""


FromForks = Forked | NotForked | Exited

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Framer:
    """Splits a byte stream into messages: feed() takes what was read and returns complete ones."""

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
