"""Stores files in a local folder: every path stays below the root, and a file appears whole or not at all."""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase, invalid
from openegress.core.storages import LocalStorage
from openegress.request.naming import is_private
from openegress.storage.spool import unreadable

NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS})
"""Errors of link(2) after which copying may still work: another disk, or one without hard links."""

COPIED_BELOW_BYTES = 1024 * 1024
"""Size below which files are copied: some playlists, manifests and pictures are rewritten in place while the
old one is read."""

_COPY_BYTES = 1024 * 1024

TRANSIENT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE})
"""Disk errors that may pass: space is freed, a network mount comes back."""


def parts_below(root: Path, path: str) -> tuple[str, ...]:
    """The names that lead from `root` to `path`. A leading "/" means the root; an absolute path below the
    root is used unchanged. Raises EgressError for a path that leads elsewhere."""
    if "\0" in path:
        raise invalid(f"local path {path!r} holds a zero byte")
    if path.startswith("/"):
        absolute = Path(path)
        relative = absolute.relative_to(root) if absolute.is_relative_to(root) else absolute.relative_to("/")
    else:
        relative = Path(path)
    if not relative.parts:
        raise invalid(f"local path {path!r} names no file")
    if ".." in relative.parts:
        raise invalid(f"local path {path!r} leads out of {root}; use a path without '..'")
    return relative.parts


def failure(error: OSError, path: str, root: Path, phase: Phase) -> EgressError:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        text = f"{path!r} is not below {root}"
        return EgressError(Code.NOT_FOUND, text, fault=Fault.DESTINATION, phase=phase)
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            user = f"user {os.geteuid()}"
            text = f"cannot write {path!r} below {root}: {reason}; make the folder writable for {user}"
        case errno.ELOOP | errno.ENOTDIR:
            text = (
                f"cannot write {path!r} below {root}: {reason}; "
                "a part of the path is a symbolic link or a file, and must be a folder"
            )
        case errno.ENOSPC | errno.EDQUOT:
            text = f"cannot write {path!r} below {root}: {reason}; free some space"
        case _:
            text = f"cannot write {path!r} below {root}: {reason}"
    if error.errno in TRANSIENT:
        return EgressError(Code.RESOURCE_EXHAUSTED, text, fault=Fault.DESTINATION, phase=phase)
    return EgressError(Code.INVALID_ARGUMENT, text, fault=Fault.CALLER, phase=phase)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file to be stored, opened for reading."""

    fd: int
    folder: int
    """Descriptor of its folder."""
    name: str


class LocalFolder:
    """The Storage for a LocalStorage backend. Folders below the root are made as needed, with the umask.

    Paths are walked by file descriptors without following symbolic links, so that nobody can redirect a
    recording by changing folders meanwhile. The root itself may be a link.
    """

    def __init__(self, backend: LocalStorage) -> None:
        self.root = Path(backend.root).absolute()
        self._private = backend.private

    async def check(self, path: str) -> None:
        await asyncio.to_thread(self._check, path)

    async def put(self, local: Path, path: str, content_type: str) -> None:
        """Makes a hard link of a large file where the disk allows it (instant, without a second copy), else a
        copy. Either replaces an existing file in one step. A large `local` must not be changed in place
        afterwards, as the link shares its data."""
        await asyncio.to_thread(self._put, local, path)

    async def size(self, path: str) -> int | None:
        return await asyncio.to_thread(self._size, path)

    async def changed_s(self, path: str) -> float | None:
        """Like Storage.changed_s. For a hard link this is the time of the recording's last write."""
        return await asyncio.to_thread(self._changed_s, path)

    async def read(self, path: str, offset: int, size: int) -> bytes:
        return await asyncio.to_thread(self._read, path, offset, size)

    def open(self, path: str) -> int:
        """Opens a file for reading. Returns its descriptor, which the caller closes. Raises EgressError
        not_found for what is not a file below the root, or lies in one of the server's own folders."""
        try:
            *folders, name = self._parts(path)
            with self._deepest(folders) as (folder, missing):
                return _opened(name, folder, missing)
        except IsADirectoryError as error:
            raise EgressError(Code.NOT_FOUND, f"{path!r} is not a file") from error
        except (OSError, EgressError) as error:
            raise EgressError(Code.NOT_FOUND, f"{path!r} is not below {self.root}") from error

    @contextmanager
    def source(self, path: str) -> Iterator[OpenedFile]:
        """Opens a file that is to be stored elsewhere. Raises EgressError with fault SERVICE if it cannot be
        read."""
        *folders, name = self._parts(path)
        with ExitStack() as stack:
            try:
                folder, missing = stack.enter_context(self._deepest(folders))
                fd = _opened(name, folder, missing)
            except OSError as error:
                raise unreadable(self.root / path, error) from error
            stack.callback(os.close, fd)
            yield OpenedFile(fd, folder, name)

    async def presign(self, path: str, expires_s: int) -> str:
        """Returns the location, as a local file has no URL."""
        return self.location(path)

    def location(self, path: str) -> str:
        return str(self.root.joinpath(*parts_below(self.root, path)))

    async def close(self) -> None:
        """Does nothing, because nothing is open."""

    def _parts(self, path: str) -> tuple[str, ...]:
        """The parts of a path. It is checked again here, as the name now contains values from the room.
        Raises EgressError."""
        parts = parts_below(self.root, path)
        if is_private(str(self.root.joinpath(*parts)), self._private):
            raise invalid(f"local path {path!r} lies in a folder of the server's own; give another path")
        return parts

    def _check(self, path: str) -> None:
        *folders, name = self._parts(path)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._deepest(folders) as (folder, missing):
                if too_long := next((each for each in (*folders, name) if len(os.fsencode(each)) > 255), ""):
                    raise OSError(errno.ENAMETOOLONG, f"{too_long[:32]!r}... has more than 255 bytes")
                if not missing and is_folder(name, folder):
                    raise IsADirectoryError(errno.EISDIR, "the path is an existing folder")
                probe = f".openegress-check-{secrets.token_hex(4)}"
                fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
                try:
                    os.write(fd, b"openegress write check\n")
                finally:
                    os.close(fd)
                    os.unlink(probe, dir_fd=folder)
        except OSError as error:
            raise failure(error, path, self.root, Phase.STORAGE_CHECK) from error

    def _put(self, local: Path, path: str) -> None:
        with LocalFolder(LocalStorage(str(local.parent))).source(local.name) as source:
            self.store(source, path)

    def store(
        self,
        source: OpenedFile,
        path: str,
        *,
        replaces: bool = True,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Like put(), and blocking. `replaces`: an existing file is replaced, and refused otherwise. Once
        `is_wanted` returns False, nothing is put in its place. Raises EgressError."""
        *folders, name = self._parts(path)
        try:
            with self._folder(folders) as folder:
                # Not derived from `name`, which may already have the maximum length.
                temporary = f".openegress-{secrets.token_hex(8)}"
                try:
                    _link_or_copy(source, temporary, folder, is_wanted)
                    _refuse_unwanted(is_wanted)
                    if not _put_in_place(temporary, name, folder, replaces=replaces):
                        raise self._taken(path)
                finally:
                    # rename(2) does nothing if both names are links to one file, and leaves the first behind.
                    remove_if_there(temporary, folder)
                os.fsync(folder)
        except OSError as error:
            raise failure(error, path, self.root, Phase.STORAGE_WRITE) from error

    def _taken(self, path: str) -> EgressError:
        why = f"{path!r} below {self.root} exists already"
        return EgressError(Code.ALREADY_EXISTS, why, fault=Fault.SERVICE, phase=Phase.STORAGE_WRITE)

    def _size(self, path: str) -> int:
        *folders, name = parts_below(self.root, path)
        try:
            with self._deepest(folders) as (folder, missing):
                if missing:
                    raise FileNotFoundError(errno.ENOENT, "no such folder")
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        except OSError as error:
            raise failure(error, path, self.root, Phase.STORAGE_WRITE) from error

    def _read(self, path: str, offset: int, size: int) -> bytes:
        fd = self.open(path)
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            raise failure(error, path, self.root, Phase.STORAGE_WRITE) from error
        finally:
            os.close(fd)

    def _changed_s(self, path: str) -> float | None:
        *folders, name = parts_below(self.root, path)
        try:
            with self._deepest(folders) as (folder, missing):
                if missing:
                    return None
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, path, self.root, Phase.STORAGE_WRITE) from error

    @contextmanager
    def _folder(self, names: list[str]) -> Iterator[int]:
        """Yields a descriptor of root/names[0]/...; missing folders are made."""
        with self._walk(names, make=True) as (fd, _):
            yield fd

    @contextmanager
    def _deepest(self, names: list[str]) -> Iterator[tuple[int, int]]:
        """Yields a descriptor of the deepest existing folder of root/names[0]/..., and how many names are
        missing. A check does not make folders: it could not remove them again without disturbing a recording
        that has just begun to use them."""
        with self._walk(names, make=False) as found:
            yield found

    @contextmanager
    def _walk(self, names: list[str], *, make: bool) -> Iterator[tuple[int, int]]:
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        # A caged recording looks at files in folders that it may not read. Only what is written is flushed.
        last = len(names) - 1 if make else len(names)
        fd = os.open(self.root, (os.O_RDONLY if last < 0 else os.O_PATH) | os.O_DIRECTORY | os.O_CLOEXEC)
        missing = 0
        try:
            for n, name in enumerate(names):
                try:
                    if make:
                        os.mkdir(name, dir_fd=fd)
                except FileExistsError:
                    pass  # the usual case; open() below fails if it is not a folder
                flags = (os.O_RDONLY if n == last else os.O_PATH) | os.O_DIRECTORY | os.O_NOFOLLOW
                try:
                    below = os.open(name, flags | os.O_CLOEXEC, dir_fd=fd)
                except FileNotFoundError:
                    if make:
                        raise
                    missing = len(names) - n
                    break
                os.close(fd)
                fd = below
            yield fd, missing
        finally:
            os.close(fd)


def _opened(name: str, folder: int, missing: int) -> int:
    """Opens a file in `folder`, below which `missing` folders are missing. Raises OSError."""
    if missing:
        raise FileNotFoundError(errno.ENOENT, "no such folder")
    # O_NONBLOCK: opening a pipe would wait for its writer.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, "it is not a file")
    return fd


def _link_or_copy(source: OpenedFile, name: str, folder: int, is_wanted: Callable[[], bool]) -> None:
    """Makes `name` in `folder` (a descriptor) a link to, or a copy of, `source`. Returns when the data is on
    the disk. Raises OSError."""
    size_bytes = os.fstat(source.fd).st_size
    if size_bytes >= COPIED_BELOW_BYTES and _link(source, name, folder):
        os.fsync(source.fd)
        return
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    with os.fdopen(target, "wb", buffering=0) as writer:
        copied = 0
        while data := os.pread(source.fd, min(_COPY_BYTES, size_bytes - copied), copied):
            _refuse_unwanted(is_wanted)
            copied += writer.write(data)
        os.fsync(writer.fileno())


def _link(source: OpenedFile, name: str, folder: int) -> bool:
    """Makes a hard link. Returns False if the disk does not support it between the two places. Raises OSError
    otherwise."""
    try:
        os.link(source.name, name, src_dir_fd=source.folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        return False
    linked = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not os.path.samestat(linked, os.fstat(source.fd)):
        raise OSError(errno.EBUSY, "the recorded file was replaced meanwhile")
    return True


def _refuse_unwanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise OSError(errno.ECANCELED, "the recording process ended meanwhile")


def _put_in_place(temporary: str, name: str, folder: int, *, replaces: bool) -> bool:
    """Gives a file its name. Returns False if the name exists and is not to be replaced. Raises OSError."""
    if not replaces:
        try:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            if _is_there(name, folder):
                return False
        else:
            return True
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_folder(name: str, folder: int) -> bool:
    try:
        os.close(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder))
    except OSError:
        return False
    return True


def remove_if_there(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
