"""Writes files of an egress on the local disk, from the first byte until the storage has them."""

import errno
import os
from io import FileIO
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase

HEADER_BYTES = 4096
"""Limit for what any container writes before its first frame: a smaller file that does not play never held
any media."""


class SpoolFile:
    """A file that a muxer writes to (media.muxer.ByteSink).

    Once a write failed, `closed` is True and nothing more is written: FFmpeg then leaves out its trailer,
    which would turn a file that plays up to its last whole fragment into one that does not play at all.
    """

    def __init__(self, path: Path, *, keep_bytes: int = 0) -> None:
        """Creates or empties the file, except for its first `keep_bytes`. Raises EgressError."""
        self.path = path
        self.closed = False
        self.error: OSError | None = None
        self._end = keep_bytes
        try:
            self._file = FileIO(path, "r+" if keep_bytes else "w")
            if keep_bytes:
                self._file.truncate(keep_bytes)
                self._file.seek(keep_bytes)
        except OSError as error:
            raise disk_error(error, path) from error

    @property
    def size_bytes(self) -> int:
        return self._end

    def write(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.error = error
            self.closed = True
            raise
        self._end = max(self._end, self._file.tell())
        return len(data)

    def rewrite(self, offset: int, data: bytes) -> None:
        """Overwrites existing bytes; the next write() continues at the end. Raises OSError."""
        if self.error is not None:
            raise self.error
        try:
            while data:
                written = os.pwrite(self._file.fileno(), data, offset)
                offset, data = offset + written, data[written:]
        except OSError as error:
            self.error = error
            self.closed = True
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seal(self) -> None:
        """Accepts no more writes from now on."""
        self.closed = True

    def release(self) -> None:
        """Syncs to the disk, and closes. Raises EgressError."""
        self.closed = True
        if self._file.closed:
            return
        try:
            if self.error is None:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(error, self.path) from error
        finally:
            self._file.close()


def folder(spool: str, name: str) -> Path:
    """Creates the folder of one output below the egress's spool. Raises EgressError."""
    path = Path(spool) / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error
    return path


def disk_error(error: OSError, path: Path) -> EgressError:
    """Explains the disk's refusal to the operator."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            code, text = (
                Code.RESOURCE_EXHAUSTED,
                f"the disk of the recordings ({path.parent}) is full: free some space or record to a "
                "larger one; the recording up to then is kept",
            )
        case errno.EFBIG:
            code, text = (
                Code.RESOURCE_EXHAUSTED,
                f"the largest size a file may have on this host was reached by {path.name}: raise the "
                "limit or set file_output_max_size; the recording up to then is kept",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            code, text = (
                Code.PERMISSION_DENIED,
                f"the service may not write {path}: {error.strerror}; give its user write access",
            )
        case _:
            code, text = Code.INTERNAL, f"cannot write {path}: {error.strerror or error}"
    return EgressError(code, text, fault=Fault.SERVICE, phase=Phase.RECORDING)


def replace(path: Path, content: str | bytes) -> None:
    """Replaces the content of `path`: readers see the old content or the new."""
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
