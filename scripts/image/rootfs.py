"""A stage of a Dockerfile as a folder of the host: its base, its files, and commands run in it.

A command gets namespaces of its own for mounts and processes, and the folder as its root (pivot_root, not
chroot: a browser's sandbox is refused in a chroot). Nothing stays mounted and nothing runs on after it.
What the host has set up to reach registries is shown to commands that build, and never becomes part of it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from scripts.image.dockerfile import Copy, Stage, ignored, substituted

DEBIAN = {"debian:12-slim": "bookworm", "node:22-bookworm-slim": "bookworm"}
"""Images that debootstrap can stand in for."""

NODE = {"node:22-bookworm-slim": ("node@22", "npm@10")}
"""What such an image has beside Debian, from the npm registry."""

_SLIM = ("doc", "info", "linda", "lintian/overrides", "locale", "man")
"""Folders of /usr/share that Debian's slim images keep empty, but for licences."""

_HOST = "/run/host"
_PASSED = re.compile(
    r"(PIP|UV)_(?!FIND_LINKS|CACHE_DIR|PROJECT_ENVIRONMENT)\w+|NPM_CONFIG_\w+|(HTTPS?|ALL|NO)_PROXY",
    re.IGNORECASE,
)

_ENTER = r"""
set -e
root=$1 host=$2 devices=$3; shift 3
mount --bind "$root" "$root"
cd "$root"
mkdir -p proc sys dev run/host
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777,size=1g shm dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for name in $devices; do touch dev/$name; mount --bind /dev/$name dev/$name; done
for name in resolv.conf hosts; do
    touch etc/$name
    mount --bind -o ro "$(readlink -f /etc/$name)" etc/$name
done
if [ -n "$host" ]; then mount --bind -o ro "$host" run/host; fi
mkdir -p run/old
pivot_root . run/old
umount -l run/old
rmdir run/old
exec "$@"
"""


@dataclass(slots=True)
class Rootfs:
    """A stage that is being built, or one that is."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    workdir: str = "/"
    user: str = "0:0"

    def run(
        self,
        command: Sequence[str],
        host: "Host | None" = None,
        timeout_s: float = 1800.0,
        capture: bool = False,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """As its user, who gets no capability and no way to more unless it is root. Raises where it fails."""
        uid, _, gid = self.user.partition(":")
        become = ["setpriv", "--reuid", uid, "--regid", gid or "0", "--clear-groups"]
        if uid != "0":
            become += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        entered = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        entered += ["sh", "-c", _ENTER, "sh", str(self.root), str(host.folder) if host else ""]
        entered += ["null zero full random urandom tty", *become, "env", "-C", self.workdir, *command]
        return subprocess.run(
            entered,
            env=self.environment | (host.environment if host else {}),
            check=check,
            text=True,
            timeout=timeout_s,
            stdout=subprocess.PIPE if capture else None,
        )

    def mib(self) -> float:
        """Of its files, each counted once."""
        found = subprocess.run(
            ["du", "--summarize", "--one-file-system", "--block-size=1K", self.root],
            check=True,
            capture_output=True,
            text=True,
        )
        return int(found.stdout.split()[0]) / 1024


@dataclass(frozen=True, slots=True)
class Host:
    """How this machine reaches package registries, in a folder that commands see at /run/host."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def gathered(cls, folder: Path) -> "Host":
        folder.mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        files = {
            "PIP_CONFIG_FILE": Path("/etc/pip.conf"),
            "NPM_CONFIG_USERCONFIG": Path.home() / ".npmrc",
        }
        for name, path in files.items():
            if path.is_file():
                shutil.copy(path, folder / path.name)
                environment[name] = f"{_HOST}/{path.name}"
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.is_file():
            shutil.copy(bundle, folder)
            seen = f"{_HOST}/{bundle.name}"
            for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
                environment[name] = seen
        settings = subprocess.run(
            ["apt-config", "dump"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        wanted = ("Acquire::Check-", "Acquire::http", "Acquire::ftp", "Acquire::Retries")
        (folder / "apt.conf").write_text(
            "\n".join(line for line in settings if line.startswith(wanted)) + "\n"
        )
        environment["APT_CONFIG"] = f"{_HOST}/apt.conf"
        return cls(folder, environment)


def apt_sources(suite: str) -> str:
    """The lines by which this machine's own apt finds a Debian suite and its updates."""
    found = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = sorted(
        {line for line in found.stdout.splitlines() if f" {suite}" in line and line.endswith("main")}
    )
    if not lines:
        raise LookupError(f"this machine's apt knows no Debian {suite}")
    return "".join(f"deb {line}\n" for line in lines)


def base(image: str, root: Path, host: Host) -> None:
    """Makes what the image holds, as nearly as a package archive tells."""
    suite = DEBIAN[image]
    sources = apt_sources(suite)
    mirror = next(line.split()[1] for line in sources.splitlines() if line.split()[2] == suite)
    subprocess.run(
        ["debootstrap", "--variant=minbase", suite, root, mirror],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    excluded = "".join(f"path-exclude /usr/share/{name}/*\n" for name in _SLIM)
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(
        f"{excluded}path-include /usr/share/doc/*/copyright\npath-include /usr/share/locale/locale.alias\n"
    )
    for name in _SLIM:
        for path in (root / "usr/share" / name).rglob("*"):
            if path.name not in ("copyright", "locale.alias") and (path.is_file() or path.is_symlink()):
                path.unlink()
    (root / "etc/apt/apt.conf.d/docker").write_text(
        'APT::Keep-Downloaded-Packages "false";\nAcquire::Languages "none";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    )
    for name in ("cache/apt/archives", "lib/apt/lists"):
        for path in (root / "var" / name).glob("*.*"):
            path.unlink()
    (root / "etc/apt/sources.list").write_text(sources)
    if image in NODE:
        subprocess.run(
            ["npm", "install", "--silent", "--global", "--prefix", root / "usr/local", *NODE[image]],
            check=True,
        )


def build(
    stage: Stage, into: Rootfs, context: Path, ignore: list[str], built: dict[str, Rootfs], host: Host
) -> None:
    """Carries out the steps of a stage on its base."""
    for step in stage.steps:
        match step.name:
            case "RUN":
                print(f"RUN {' '.join(step.text.split())}", flush=True)
                into.run(["/bin/sh", "-c", step.text], host)
            case "COPY":
                copy(Copy.of(step), into, context, ignore, built)
            case "ENV":
                into.environment |= step.pairs(into.environment)
            case "USER":
                into.user = step.text
            case "WORKDIR":
                into.workdir = substituted(step.text, into.environment)
                inside(into, into.workdir).mkdir(parents=True, exist_ok=True)
            case "VOLUME":
                for path in step.words():
                    inside(into, path).mkdir(parents=True, exist_ok=True)
            case _:  # ENTRYPOINT, CMD, EXPOSE: said, not done
                pass


def copy(what: Copy, into: Rootfs, context: Path, ignore: list[str], built: dict[str, Rootfs]) -> None:
    target = inside(into, what.target)
    into_folder = what.target.endswith("/") or len(what.sources) > 1
    for name in what.sources:
        source = inside(built[what.stage], name) if what.stage else context / name
        if source.is_dir():
            skip = None if what.stage else _skipping(context, ignore)
            shutil.copytree(source, target, symlinks=True, ignore=skip, dirs_exist_ok=True)
        else:
            if not what.stage and ignored(PurePosixPath(name), ignore):
                raise FileNotFoundError(f"COPY {name}: .dockerignore leaves it out")
            (target if into_folder else target.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _skipping(context: Path, ignore: list[str]) -> Callable[[str, list[str]], list[str]]:
    def skip(folder: str, names: list[str]) -> list[str]:
        relative = PurePosixPath(Path(folder).relative_to(context))
        return [name for name in names if ignored(relative / name, ignore)]

    return skip


def inside(rootfs: Rootfs, path: str) -> Path:
    return rootfs.root / PurePosixPath(rootfs.workdir, path).relative_to("/")
