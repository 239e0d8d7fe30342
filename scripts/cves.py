"""`make cves`: known CVEs of the C libraries in PyAV's wheel, which read what strangers send.

The wheel's versions are compared with the changelogs of Debian's unstable, which name the CVEs each version
fixes. They come as packages do, by apt, signed. What Debian has not named is not seen, nor are Python's own
packages.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian sid main\n"
LIBRARIES = Path(av.__file__).parents[1] / "av.libs"

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Of a changelog, newest first."""

    upstream: Version
    is_release: bool
    """Upstream's own; otherwise Debian's patches to it."""
    cves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    name: str
    package: str
    """A pattern for the binary package that has the changelog; its name holds a number that rises."""
    version: Callable[[], str]


def parse(changelog: str) -> list[Entry]:
    """deb-changelog(5)."""
    entries = []
    for part in re.split(r"(?m)^(?=\S+ \()", changelog):
        found = re.match(r"\S+ \((?:[0-9]+:)?([^)]+)\)", part)
        if found is not None:
            upstream, _, revision = found[1].rpartition("-")
            cves = tuple(sorted(set(re.findall(r"CVE-[0-9]{4}-[0-9]+", part))))
            entries.append(Entry(numbers(upstream or found[1]), revision in ("", "0", "1"), cves))
    return entries


def numbers(version: str) -> Version:
    """1.2.3 of v1.2.3+dfsg; empty where there are none."""
    found = re.search(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def missing(entries: list[Entry], ours: Version) -> list[tuple[str, Entry]]:
    """CVEs that `ours` is not known to be free of, and where they are fixed."""
    return [
        (cve, entry)
        for entry in entries
        if entry.upstream > ours or (entry.upstream == ours and not entry.is_release)
        for cve in entry.cves
    ]


def newer(entries: list[Entry], ours: Version) -> list[Version]:
    return sorted({entry.upstream for entry in entries if entry.upstream > ours}, reverse=True)


def called(file: str, function: str, *arguments: object) -> Callable[[], str]:
    """The version that a library of the wheel tells of itself."""

    def ask() -> str:
        library = ctypes.CDLL(str(next(LIBRARIES.glob(f"{file}-*"))))
        tell = getattr(library, function)
        tell.restype = ctypes.c_char_p
        return str(tell(*arguments).decode())

    return ask


WATCHED = (
    Library("FFmpeg", "^libavutil[0-9]+$", lambda: av.ffmpeg_version_info),
    Library("dav1d", "^libdav1d[0-9]+$", called("libdav1d", "dav1d_version")),
    Library("libvpx", "^libvpx[0-9]+$", called("libvpx", "vpx_codec_version_str")),
    Library("opus", "^libopus0$", called("libopus", "opus_get_version_string")),
    Library("GnuTLS", "^libgnutls[0-9]+(t64)?$", called("libgnutls", "gnutls_check_version", None)),
)


class Apt:
    """Debian's unstable beside what the machine has, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        for name in ("etc/sources.list.d", "etc/preferences.d", "etc/apt.conf.d", "etc/trusted.gpg.d"):
            (folder / name).mkdir(parents=True)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "etc" / "sources.list").write_text(SOURCE)
        self._folder = folder
        self._options = [
            *("-o", f"Dir::Etc={folder}/etc", "-o", f"Dir::State={folder}/state"),
            *("-o", f"Dir::Cache={folder}/cache", "-o", "Dir::State::status=/dev/null"),
            *("-o", "APT::Architecture=amd64", "-o", "APT::Sandbox::User=root", "-qq"),
        ]

    def update(self) -> None:
        self._run("apt-get", "update")

    def changelog(self, pattern: str) -> str:
        """Of the package whose name matches, the one with the highest number."""
        found = self._run("apt-cache", "search", "--names-only", pattern).split("\n")
        names = [line.partition(" ")[0] for line in found if line]
        if not names:
            raise LookupError(f"Debian's unstable has no package {pattern}")
        name = max(names, key=numbers)
        self._run("apt-get", "download", name)
        (package,) = self._folder.glob(f"{name}_*.deb")
        files = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True
        ).stdout
        unpacked = subprocess.run(
            ["tar", "-xO", f"./usr/share/doc/{name}/changelog.Debian.gz"],
            check=True,
            capture_output=True,
            input=files,
        ).stdout
        return subprocess.run(["gunzip"], check=True, capture_output=True, input=unpacked).stdout.decode()

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [command[0], *self._options, *command[1:]], capture_output=True, text=True, cwd=self._folder
        )
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def report(library: Library, changelog: str) -> Iterator[str]:
    """A line for the library, and one for each CVE; only those of CVEs begin with a space."""
    entries, ours = parse(changelog), numbers(library.version())
    since = newer(entries, ours)
    behind = f"; Debian's unstable has {dotted(since[0])}" if since else ""
    yield f"{library.name} {dotted(ours)}{behind}"
    for cve, fixed in missing(entries, ours):
        yield f"  {cve}, fixed {'in' if fixed.is_release else 'by a patch to'} {dotted(fixed.upstream)}"


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def main() -> int:
    if not KEYRING.exists():
        print(f"{KEYRING} is missing: install debian-archive-keyring (Debian, Ubuntu)", file=sys.stderr)
        return 2
    known = 0
    with tempfile.TemporaryDirectory(prefix="openegress-cves-") as folder:
        apt = Apt(Path(folder))
        try:
            apt.update()
            for library in WATCHED:
                for line in report(library, apt.changelog(library.package)):
                    known += line.startswith(" ")
                    print(line)
        except (OSError, LookupError) as error:
            print(error, file=sys.stderr)
            return 2
    print(f"{known} known CVEs" if known else "no known CVE")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
