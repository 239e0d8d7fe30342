"""Restricts what a handler may do once it reads untrusted media: FFmpeg's decoders are C.

A handler that records a room, or finishes another's recording, keeps its spool folder, and reads what it
needs to run. It starts no program and no process. A handler with a browser must start programs, and by then
has threads that Landlock would not bind; once the browser is up, it starts no more.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Protocol

import openegress
from openegress.core import plan as plans
from openegress.core.clip_plan import ClipPlan
from openegress.core.daemon_thread import settle
from openegress.core.looks import PictureFiles
from openegress.core.storages import AzureStorage, Backend, GCPStorage, S3Storage
from openegress.handler import landlock, seccomp
from openegress.handler.clip_rules import clip_rules
from openegress.handler.landlock import READ, WRITE, Access, PathRule
from openegress.handler.seccomp import UnixSockets
from openegress.storage.journal import make_folder

_log = logging.getLogger(__name__)

_READ = (
    *("/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/share", "/usr/local/lib", "/usr/local/share"),
    *("/lib", "/lib64", "/nix/store"),
    # Libraries, names, times, certificates, fonts.
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/hosts", "/etc/resolv.conf"),
    *("/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols"),
    *(
        "/etc/localtime",
        "/etc/timezone",
        "/etc/passwd",
        "/etc/mime.types",
        "/etc/fonts",
        "/var/cache/fontconfig",
    ),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/gnutls"),
    # The number of cores and the amount of memory.
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/net"),
    *("/sys/devices/system", "/sys/fs/cgroup"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
_READ_AT_HOME = (".fonts", ".local/share/fonts", ".cache/fontconfig", ".config/fontconfig")
_READ_AS_NAMED = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "FONTCONFIG_FILE", "FONTCONFIG_PATH")
"""Environment variables with the name of a file or folder."""
_AWS_NAMED = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
_AWS_TOKENS = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
"""Environment variables that name files which are replaced during a recording: their folders are granted."""
_PACKAGES = ("site-packages", "dist-packages")
"""Names of folders of Python packages, to find them in sys.path, which begins with the service's working
folder."""
_RESOLVER = Path("/etc/resolv.conf")


class Confinement(Protocol):
    async def enter(self) -> None:
        """Call it before media arrives and before there is another thread. Raises EgressError."""

    def seal(self) -> None:
        """Forbids starting programs from now on: everything needed already runs."""


class Unconfined:
    """The confinement of a process that is not a handler, or of a handler if confinement is off."""

    async def enter(self) -> None:
        """Restricts nothing."""

    def seal(self) -> None:
        """Restricts nothing."""


class Work(Enum):
    ROOM = "room"
    PAGE = "page"
    RECOVERY = "recovery"
    CLIP = "clip"


class Granted(Protocol):
    """The parts of a plan that decide what it grants."""

    @property
    def egress_id(self) -> str: ...
    @property
    def outputs(self) -> Sequence[plans.Output]: ...
    @property
    def pictures(self) -> PictureFiles: ...


class Cage:
    """Restricts one handler process permanently."""

    def __init__(self, plan: Granted, spool: Path, work: Work) -> None:
        self._plan = plan
        self._spool = spool
        self._work = work
        self._is_sealed = False

    async def enter(self) -> None:
        if self._work is Work.PAGE:
            return
        if self._work is not Work.RECOVERY:  # its folder exists, or there is none
            await _make_folder(self._spool, self._plan.egress_id)
        try:
            restricted = landlock.restrict(rules(self._plan, self._spool, os.environ, _home()))
        except OSError as error:
            restricted = 0
            _log.warning("Landlock refused to restrict this recording: %s", error)
        if not restricted:
            _log.warning(
                "the kernel has no Landlock: decoders could reach files that are not this recording's"
            )
        self.seal()

    def seal(self) -> None:
        if self._is_sealed:
            return
        self._is_sealed = True
        is_page = self._work is Work.PAGE
        try:
            restricted = seccomp.restrict(UnixSockets.ALLOWED if is_page else UnixSockets.REFUSED)
        except OSError as error:
            restricted = False
            _log.warning("seccomp refused to restrict this recording: %s", error)
        if not restricted:
            _log.warning("no system calls are filtered here: decoders could start programs")


def rules(plan: Granted, spool: Path, environment: Mapping[str, str], home: Path) -> list[PathRule]:
    read = [Path(each) for each in (*_READ, sys.prefix, sys.base_prefix, *openegress.__path__)]
    read += [path for each in sys.path if (path := Path(each)).name in _PACKAGES]
    read += [home / each for each in _READ_AT_HOME]
    read += [Path(environment[name]) for name in _READ_AS_NAMED if environment.get(name)]
    if (real := _RESOLVER.resolve()).parent != _RESOLVER.parent:
        read.append(real.parent)  # the link's target may be replaced
    read += [Path(each) for each in (*plan.pictures.logos.values(), *plan.pictures.backgrounds.values())]
    for backend in _backends(plan):
        read += _identity(backend, environment, home)
    return [
        *(PathRule(each, READ) for each in read),
        *(clip_rules(plan) if isinstance(plan, ClipPlan) else ()),
        PathRule(spool / plan.egress_id, WRITE),
        PathRule(Path("/dev/null"), READ | Access.WRITE_FILE),
    ]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container may run under a uid without a user
        return Path("/nonexistent")


def _backends(plan: Granted) -> Iterator[Backend]:
    for output in plan.outputs:
        match output:
            case plans.FileOutput() | plans.SegmentOutput() | plans.ImageOutput():
                yield output.storage.backend
                if output.storage.backup is not None:
                    yield output.storage.backup
            case _:
                pass


def _identity(backend: Backend, environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """Files that identify the service, if the storage has no credentials of its own."""
    match backend:
        case S3Storage(access_key=""):
            yield home / ".aws"
            yield from (Path(environment[name]) for name in _AWS_NAMED if environment.get(name))
            yield from (Path(environment[name]).parent for name in _AWS_TOKENS if environment.get(name))
        case GCPStorage(credentials=""):
            yield home / ".config" / "gcloud"
            if named := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
                yield Path(named)
        case AzureStorage(account_key="", sas_token=""):
            if named := environment.get("AZURE_FEDERATED_TOKEN_FILE"):
                yield Path(named).parent
        case _:
            pass


async def _make_folder(spool: Path, egress_id: str) -> None:
    """Makes the folder in the spool, which must exist to be granted. Runs in a thread that ends: a thread of
    the loop's pool would stay outside the cage. Raises EgressError."""
    made: Future[Path] = Future()
    making = partial(settle, made, partial(make_folder, spool, egress_id))
    thread = threading.Thread(target=making, name="folder", daemon=True)
    thread.start()
    try:
        await asyncio.wrap_future(made)
    finally:
        if made.done():
            thread.join()
