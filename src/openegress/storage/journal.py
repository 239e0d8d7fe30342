"""The journal of a recording describes its folder in the spool, so that a later process can finish the work
of one that was killed.

It is a file of JSON lines: the first line holds the plan, every other line one fact, appended and flushed to
the disk. A power cut may leave the last line incomplete; it is then ignored. The journal holds secrets, so
only the service's user may read it. A file that is missing from the folder is stored; storage.backed_up knows
where.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import TypeVar

import msgspec

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.file_lock import lock
from openegress.core.ids import check_egress_id
from openegress.core.text import shown

NAME = "journal.jsonl"
MAX_BYTES = 64 * 2**20
"""Limit for the size of a journal. A day's recording in parts of one minute writes two megabytes."""
LOCK = "lock"
"""Name of a file beside the journal, which the process that works on the folder locks (flock)."""
VERSION = 1
_ENDED = "ended"
STARTED = "started"
"""Key of media time zero in unix ns, for a recording that others may continue."""
_NAMES = "names"

RESTART = "restart-"
"""Key of a core.restart.Restart, followed by its number."""

Fact = str | int | float | bool
T = TypeVar("T")


class Opened(msgspec.Struct, frozen=True, tag="opened", tag_field="is"):
    version: int
    egress_id: str
    plan: bytes
    seal: str = ""
    """The seal of the plan, made by the worker that gave the plan to the handler (storage.seal)."""


class Noted(msgspec.Struct, frozen=True, tag="noted", tag_field="is"):
    key: str
    value: Fact


Line = Opened | Noted


class Journal:
    """The journal of one egress: `<spool>/<egress_id>/journal.jsonl`. Any thread may call its methods, which
    return when the line is on the disk."""

    def __init__(self, folder: Path, opened: Opened) -> None:
        self.folder = folder
        self.egress_id = opened.egress_id
        self.plan = opened.plan
        """The plan in the encoding of core.plan.encode."""
        self.seal = opened.seal
        self.facts: dict[str, Fact] = {}
        """The last value of each key given to `note`: media time zero, values in file names and others."""
        self._lock = threading.Lock()

    @classmethod
    def create(cls, spool: Path, egress_id: str, plan: bytes, seal: str = "") -> "Journal":
        """Makes the folder and the journal. Raises EgressError if the disk refuses."""
        folder = make_folder(spool, egress_id)
        opened = Opened(VERSION, egress_id, plan, seal)
        try:
            temporary = folder / f".{NAME}"
            with open(temporary, "wb", opener=privately) as file:
                file.write(msgspec.json.encode(opened) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / NAME)
            sync_folder(folder)
        except OSError as error:
            raise failed(folder, error) from error
        return cls(folder, opened)

    @classmethod
    def load(cls, folder: Path, *, mends: bool = True) -> "Journal":
        """Reads the journal in `folder`. `mends` cuts off an incomplete last line, which is safe only while
        nobody else writes. Raises EgressError if there is no journal, or it cannot be read."""
        try:
            if (size := (folder / NAME).stat().st_size) > MAX_BYTES:
                # The service reads what a handler wrote, and an attacker may control the handler.
                raise unusable(folder, f"it has {size} bytes, more than a recording ever notes")
            *lines, torn = (folder / NAME).read_bytes().split(b"\n")
            if torn and lines and mends:
                # A power cut left it incomplete, so note() had not returned. The next line must not continue
                # it.
                os.truncate(folder / NAME, sum(len(line) + 1 for line in lines))
        except OSError as error:
            raise failed(folder, error) from error
        number = 1
        try:
            opened = msgspec.json.decode(lines[0] if lines else b"", type=Opened)
            if opened.version != VERSION:
                raise unusable(folder, f"it is of version {opened.version}, this service knows {VERSION}")
            if opened.egress_id != folder.name:
                # Otherwise a recovery would store or remove files of another egress.
                raise unusable(folder, f'it is of the egress "{shown(opened.egress_id)}"')
            journal = cls(folder, opened)
            for line in lines[1:]:
                number += 1
                journal._apply(msgspec.json.decode(line, type=Line))
        except ValueError as error:
            raise unusable(folder, f"line {number}: {error}") from error
        return journal

    @staticmethod
    def find(spool: Path) -> list[Path]:
        """The folders below `spool` that hold a journal, oldest first."""
        if not spool.is_dir():
            return []
        found = [entry for entry in spool.iterdir() if (entry / NAME).is_file()]
        return sorted(found, key=lambda folder: (folder / NAME).stat().st_ctime_ns)

    @property
    def size_bytes(self) -> int:
        """The size of the journal on the disk; 0 if the disk does not say."""
        try:
            return (self.folder / NAME).stat().st_size
        except OSError:
            return 0

    def note(self, key: str, value: Fact) -> None:
        """Notes a fact for a recovery; a later value of the same key replaces it. Raises EgressError."""
        self._append(Noted(key, value))

    def noted(self, prefix: str, kind: type[T]) -> tuple[T, ...]:
        """All facts whose keys begin with `prefix`, in the order in which they came. Raises ValueError."""
        texts = [str(value) for key, value in self.facts.items() if key.startswith(prefix)]
        return tuple(msgspec.json.decode(text, type=kind) for text in texts)

    def note_names(self, values: dict[str, str]) -> None:
        """Notes the values of placeholders in file names. Raises EgressError."""
        self.note(_NAMES, msgspec.json.encode(values).decode())

    @property
    def names(self) -> dict[str, str]:
        """The values of placeholders; empty until note_names(). Raises ValueError for a damaged line."""
        noted = self.facts.get(_NAMES)
        return {} if noted is None else msgspec.json.decode(str(noted), type=dict[str, str])

    @property
    def has_ended(self) -> bool:
        """Whether mark_ended() was called."""
        return bool(self.facts.get(_ENDED))

    @property
    def has_begun(self) -> bool:
        """Whether there is something to continue, for a recording that others may continue."""
        return bool(self.facts.get(STARTED))

    def finish(self) -> None:
        """Removes the folder with everything in it. A caged handler may not remove the folder itself: its
        worker does that once the folder is empty. Raises EgressError if the disk refuses."""
        try:
            # The journal goes first: a folder without a journal is not recovered.
            (self.folder / NAME).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            pass  # removed twice, or by hand
        except PermissionError as error:
            if any(self.folder.iterdir()):
                raise failed(self.folder, error) from error
        except OSError as error:
            raise failed(self.folder, error) from error

    def _append(self, line: Line) -> None:
        with self._lock:
            try:
                append(self.folder / NAME, msgspec.json.encode(line) + b"\n")
            except OSError as error:
                raise failed(self.folder, error) from error
            self._apply(line)

    def _apply(self, line: Line) -> None:
        match line:
            case Noted():
                self.facts[line.key] = line.value
            case Opened():
                pass  # it was read before the others


def make_folder(spool: Path, egress_id: str) -> Path:
    """Makes the folder of an egress, so that it survives a power cut. Raises EgressError if the disk
    refuses."""
    folder = spool / check_egress_id(egress_id)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(spool)
    except OSError as error:
        raise failed(folder, error) from error
    return folder


def append(path: Path, data: bytes) -> None:
    """Appends all of `data` or nothing, as half a line would spoil the next one. Raises OSError."""
    with path.open("ab", buffering=0) as file:
        before_bytes = file.seek(0, os.SEEK_END)
        rest = data
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before_bytes)
            raise


def has_journal(folder: Path) -> bool:
    return (folder / NAME).is_file()


def mark_ended(folder: Path) -> None:
    """Notes that the egress has ended, for a later process that stores what is left. Does nothing without a
    journal. Must not be called while another process works on the folder. Raises EgressError."""
    if has_journal(folder):
        Journal.load(folder).note(_ENDED, True)


def is_held(folder: Path) -> bool:
    """Whether a process of this worker or another one works on the folder."""
    try:
        fd = lock(folder / LOCK)
    except FileNotFoundError:
        return False
    if fd is None:
        return True
    os.close(fd)
    return False


def privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk, so that they survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def failed(folder: Path, error: OSError) -> EgressError:
    return EgressError(
        Code.INTERNAL,
        f"journal in {folder}: {error.strerror or error}; the spool must be writable and have space",
        fault=Fault.SERVICE,
        phase=Phase.RECORDING,
    )


def unusable(folder: Path, why: str) -> EgressError:
    return EgressError(
        Code.DATALOSS, f"journal in {folder}: {why}", fault=Fault.SERVICE, phase=Phase.RECOVERY
    )
