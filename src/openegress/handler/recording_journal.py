"""Keeps a recording's journal on disk, so that another process can finish the recording if its handler is
killed.

The journal lies beside the media. It holds the plan, and the last update of each output. A lock on it
distinguishes a running recording from an abandoned one.
"""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from openegress.core import daemon_thread
from openegress.core import plan as plans
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import (
    AnyEvent,
    FileUpdate,
    ImagesUpdate,
    SegmentsUpdate,
    StreamUpdate,
)
from openegress.core.file_lock import lock
from openegress.core.marker import Marker
from openegress.core.plan import Plan, StreamOutput, StreamTarget
from openegress.core.restart import Restart
from openegress.core.tasks import cancelled
from openegress.handler.recorded_span import RecordedSpan
from openegress.output.manifest import ClipRecord, Pause
from openegress.storage.journal import LOCK, RESTART, STARTED, Journal, has_journal, is_held
from openegress.storage.late import LateUploads, SentByJournal, last_change_s

_log = logging.getLogger(__name__)

OutputUpdate = FileUpdate | SegmentsUpdate | ImagesUpdate
T = TypeVar("T")

_PASSTHROUGH = "passthrough"
_MARKER = "marker-"
_RECORDED, _COMPOSINGS, _COMPOSED = "recorded", "composings", "composed"
_CLIP = "clip-"
_PAUSE = "pause-"
_ENDING = "ending"
_RULES, _METADATA = "rules", "metadata-"
_STREAM, _TARGET = "stream-", "target-"
_ALIVE = b"%020d"
MAX_ASKED_BYTES = 16 * 2**20
"""Size from which on a journal refuses further requests of users, however many come. The recording's own
notes still fit, and a process that continues it can read all of it (journal.MAX_BYTES)."""
_UPDATE: msgspec.json.Decoder[OutputUpdate] = msgspec.json.Decoder(OutputUpdate)


class RecordingJournal:
    """The journal of one egress; one process at a time holds it. One thread at a time may call methods."""

    def __init__(self, journal: Journal, lock_fd: int) -> None:
        self._journal = journal
        self._lock_fd = lock_fd
        self._told: dict[tuple[int, int], OutputUpdate] = {}
        self._unwritten: set[tuple[int, int]] = set()
        """Outputs whose last state did not reach the journal."""

    @classmethod
    def create(cls, spool: Path, plan: Plan, seal: str = "") -> "RecordingJournal":
        """Creates the journal of a new recording. `seal` is the worker's seal of the plan. Raises EgressError
        if the disk refuses it, or if the folder holds an earlier recording of this egress: a retry must not
        cost media that waits there for its storage."""
        folder = spool / plan.egress_id
        if is_held(folder):
            raise _refused(folder, "another process is still working on it")
        if has_journal(folder):
            raise _refused(folder, "an earlier recording with this egress_id still waits there")
        journal = Journal.create(spool, plan.egress_id, plans.encode(plan), seal)
        return cls(journal, _lock(folder))

    @classmethod
    def take_over(cls, folder: Path) -> "RecordingJournal":
        """Opens what a process has left. Blocks while that process still works on it. Raises EgressError if
        nothing is left."""
        lock_fd = _lock(folder, wait=True)
        try:
            ledger = cls(Journal.load(folder), lock_fd)
        except EgressError:
            os.close(lock_fd)
            raise
        for key, value in ledger._journal.facts.items():
            if key.startswith("output-"):
                update = _UPDATE.decode(str(value))
                ledger._told[_key(update)] = update
        return ledger

    @classmethod
    async def taken_over(cls, folder: Path, given_up: "asyncio.Event | None" = None) -> "RecordingJournal":
        """Like take_over(), which cannot be interrupted while it waits: if `given_up` comes first, it
        abandons the wait and refuses the folder."""
        if not await asyncio.to_thread(is_held, folder):
            return await asyncio.to_thread(cls.take_over, folder)
        taking = asyncio.wrap_future(daemon_thread.submit("take over", lambda: cls.take_over(folder)))
        stopped = asyncio.create_task((given_up or asyncio.Event()).wait())
        waiting: list[asyncio.Future[Any]] = [taking, stopped]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await cancelled(stopped)
        if taking.done():
            return taking.result()
        raise _refused(folder, "another process is still working on it")

    @property
    def folder(self) -> Path:
        return self._journal.folder

    @property
    def told(self) -> dict[tuple[int, int], OutputUpdate]:
        """The last update that a recovery can use, for each part of each output: its names, and its end once
        stored. An output that is not split has part 0."""
        return self._told

    def note(self, event: AnyEvent) -> None:
        """Keeps what recovery needs of an event, and ignores the rest.

        Never raises: on a full disk, storing what is recorded makes room. The output's next event is written
        instead.
        """
        if not isinstance(event, FileUpdate | SegmentsUpdate | ImagesUpdate):
            return
        key = _key(event)
        if key not in self._told or event.ended_at_ns or key in self._unwritten:
            self._told[key] = event
            self._write(event)

    def _write(self, event: OutputUpdate) -> None:
        try:
            self._journal.note(_fact(event), msgspec.json.encode(event).decode())
        except EgressError as error:
            if not self._unwritten:
                _log.error("the journal is behind", extra={"error": error.text})
            self._unwritten.add(_key(event))
        else:
            self._unwritten.discard(_key(event))

    def note_names(self, values: dict[str, str]) -> None:
        """Notes the values of the file name placeholders."""
        self._journal.note_names(values)

    @property
    def names(self) -> dict[str, str]:
        return self._journal.names

    def note_marker(self, number: int, marker: Marker) -> None:
        """Notes a marker. Raises EgressError if the disk refuses it."""
        self._note_asked(f"{_MARKER}{number}", msgspec.json.encode(marker).decode())

    @property
    def markers(self) -> tuple[Marker, ...]:
        """The noted markers. Raises ValueError."""
        return self._journal.noted(_MARKER, Marker)

    def note_pause(self, number: int, pause: Pause) -> None:
        """Notes a pause; an open one has the end 0. Raises EgressError if the disk refuses it."""
        self._note_asked(f"{_PAUSE}{number}", msgspec.json.encode(pause).decode())

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The noted pauses. Raises msgspec.DecodeError."""
        return self._journal.noted(_PAUSE, Pause)

    def note_restart(self, number: int, restart: Restart) -> None:
        """Notes a restart. Raises EgressError if the disk refuses it."""
        self._journal.note(f"{RESTART}{number}", msgspec.json.encode(restart).decode())

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """The noted restarts. Raises msgspec.DecodeError."""
        return self._journal.noted(RESTART, Restart)

    def note_started(self, at_ns: int) -> None:
        """Notes media time zero in unix ns. Raises EgressError if the disk refuses it."""
        self._journal.note(STARTED, at_ns)

    @property
    def started_at_ns(self) -> int:
        """Media time zero in unix ns; 0: nothing was recorded yet."""
        return int(self._journal.facts.get(STARTED, 0))

    def note_alive(self) -> None:
        """Notes that it records now, in the lock file and without a flush: a second more or less does not
        matter. Never raises."""
        with contextlib.suppress(OSError), (self.folder / LOCK).open("r+b", buffering=0) as file:
            file.write(_ALIVE % time.time_ns())

    @property
    def alive_at_ns(self) -> int:
        """Unix ns of the last sign of life; 0: there was none."""
        try:
            return int((self.folder / LOCK).read_bytes() or 0)
        except (OSError, ValueError):
            return 0

    def note_stream(self, update: StreamUpdate) -> None:
        """Notes the last update of a stream or a WebSocket. Never raises: at worst its numbers restart."""
        self._try_note(_numbered(_STREAM, update.output, update.stream), update)

    def note_target(self, output: int, number: int, target: StreamTarget) -> None:
        """Notes a target that was added. Never raises: at worst a continuation does not send to it."""
        self._try_note(_numbered(_TARGET, output, number), target)

    def _try_note(self, key: str, what: StreamUpdate | StreamTarget) -> None:
        try:
            self._journal.note(key, msgspec.json.encode(what).decode())
        except EgressError as error:
            _log.error("the journal is behind", extra={"error": error.text})

    def stream(self, output: int, number: int = 0) -> StreamUpdate | None:
        """The last update of a stream, if any. Raises msgspec.DecodeError."""
        return self._noted_one(_numbered(_STREAM, output, number), StreamUpdate)

    def targets(self, output: StreamOutput, index: int) -> tuple[StreamTarget, ...]:
        """The plan's URLs, and those that were added. Raises msgspec.DecodeError."""
        found: list[StreamTarget] = []
        while True:
            number = len(found)
            target = self._noted_one(_numbered(_TARGET, index, number), StreamTarget)
            if target is None and number < len(output.targets):
                target = output.targets[number]
            if target is None:
                return tuple(found)
            found.append(target)

    def _noted_one(self, key: str, kind: type[T]) -> T | None:
        noted = self._journal.facts.get(key)
        return None if noted is None else msgspec.json.decode(str(noted), type=kind)

    def note_ending(self) -> None:
        """Notes that the recording must not be continued any more. Never raises: at worst it is continued for
        a moment."""
        try:
            self._journal.note(_ENDING, True)
        except EgressError as error:
            _log.error("the journal is behind", extra={"error": error.text})

    @property
    def is_ending(self) -> bool:
        return bool(self._journal.facts.get(_ENDING))

    def note_rules(self, rules: EndRules) -> None:
        """Notes rules that replace the plan's. Raises EgressError if the disk refuses them."""
        self._note_asked(_RULES, msgspec.json.encode(rules).decode())

    def note_metadata(self, metadata: str) -> None:
        """Notes metadata of the recorder's participant, which defines the look of the recording. Raises
        EgressError if the disk refuses it."""
        number = sum(key.startswith(_METADATA) for key in self._journal.facts)
        self._note_asked(f"{_METADATA}{number}", metadata)

    def _note_asked(self, key: str, value: str) -> None:
        """Notes a change that a user requested. Raises EgressError if the disk refuses it, or there are too
        many."""
        if self._journal.size_bytes + len(value) > MAX_ASKED_BYTES:
            why = f"journal in {self.folder}: too many changes were requested"
            raise EgressError(Code.RESOURCE_EXHAUSTED, why, phase=Phase.RECORDING)
        self._journal.note(key, value)

    def note_clip(self, number: int, clip: ClipRecord) -> None:
        """Notes a clip. Never raises: the clip is stored, even if a recovery cannot list it."""
        try:
            self._journal.note(f"{_CLIP}{number}", msgspec.json.encode(clip).decode())
        except EgressError as error:
            _log.warning("the journal does not know of a clip", extra={"error": error.text})

    @property
    def clips(self) -> tuple[ClipRecord, ...]:
        """The noted clips. Raises msgspec.DecodeError."""
        return self._journal.noted(_CLIP, ClipRecord)

    def note_passthrough(self) -> None:
        """Notes that encoded frames are stored unchanged."""
        self._journal.note(_PASSTHROUGH, True)

    @property
    def is_passthrough(self) -> bool:
        return bool(self._journal.facts.get(_PASSTHROUGH))

    @property
    def egress_id(self) -> str:
        return self._journal.egress_id

    def note_recorded(self, recorded: RecordedSpan) -> None:
        """Notes the end of a recording that is composed next: later updates belong to the composed outputs.
        Raises EgressError."""
        self._journal.note(_RECORDED, msgspec.json.encode(recorded).decode())

    @property
    def recorded(self) -> RecordedSpan | None:
        """The recorded span; None before note_recorded(). Raises msgspec.DecodeError."""
        noted = self._journal.facts.get(_RECORDED)
        return None if noted is None else msgspec.json.decode(str(noted), type=RecordedSpan)

    def begin_composing(self) -> int:
        """Discards all updates of outputs and counts an attempt to compose. Returns the number of attempts,
        including this one. Raises EgressError."""
        self._told.clear()
        self._unwritten.clear()
        count = int(self._journal.facts.get(_COMPOSINGS, 0)) + 1
        self._journal.note(_COMPOSINGS, count)
        return count

    def take_back_composing(self) -> None:
        """Takes back the count of an attempt to compose that was stopped in order. Raises EgressError."""
        self._journal.note(_COMPOSINGS, int(self._journal.facts.get(_COMPOSINGS, 0)) - 1)

    def note_composed(self) -> None:
        """Notes that the recording is composed; from here on, it is like any other. Raises EgressError."""
        self._journal.note(_COMPOSED, True)

    @property
    def is_composed(self) -> bool:
        return bool(self._journal.facts.get(_COMPOSED))

    def last_change_s(self) -> float:
        """The unix time in seconds at which the working process wrote last. Blocking."""
        return last_change_s(self.folder)

    def late_since(self, stopped_s: float) -> LateUploads:
        """The uploads of files made before this unix time, while the recording continues."""
        return LateUploads(stopped_s, SentByJournal(self._journal))

    def late_uploads(self) -> LateUploads:
        """The uploads of a recording that has ended. Blocking."""
        return LateUploads.of(self._journal)

    def settle(self) -> None:
        """Removes the folder, as everything is stored. Raises EgressError if the disk refuses."""
        self._journal.finish()
        self.release()

    def release(self) -> None:
        """Releases the lock, and leaves the folder to a later recovery. Idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def changed_rules_of(journal: Journal) -> EndRules | None:
    """The rules that replace the plan's; None: the plan's rules hold. Raises msgspec.DecodeError."""
    noted = journal.facts.get(_RULES)
    return None if noted is None else msgspec.json.decode(str(noted), type=EndRules)


def metadata_of(journal: Journal) -> list[str]:
    """All metadata that arrived while it was recorded, in order."""
    return [str(value) for key, value in journal.facts.items() if key.startswith(_METADATA)]


def _key(event: OutputUpdate) -> tuple[int, int]:
    """Returns (output, part)."""
    return event.output, event.part if isinstance(event, FileUpdate) else 0


def _numbered(prefix: str, output: int, number: int) -> str:
    return f"{prefix}{output}-{number}"


def _fact(event: OutputUpdate) -> str:
    output, part = _key(event)
    return f"output-{output}-{part}" if part else f"output-{output}"


def _lock(folder: Path, *, wait: bool = False) -> int:
    try:
        fd = lock(folder / LOCK, os.O_CREAT, wait=wait)
    except OSError as error:
        raise _refused(folder, error.strerror or str(error)) from None
    if fd is None:
        raise _refused(folder, "another process is still working on it")
    return fd


def _refused(folder: Path, why: str) -> EgressError:
    return EgressError(
        Code.FAILED_PRECONDITION, f"{folder}: {why}", fault=Fault.SERVICE, phase=Phase.RECOVERY
    )
