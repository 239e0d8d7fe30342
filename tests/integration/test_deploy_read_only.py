"""As deploy/compose.yaml and the chart have it: an unprivileged user without capabilities, on a root file
system that nobody can write to. What is written goes to the spool, the recordings and /tmp."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.markdown import ROOT
from testkit.page_server import PageServer
from testkit.probe import counters, probe

NOBODY = 65534
# Nobody gets into root's home. Interpreter and checkout may lie there, or in /tmp, and are put back.
ENTER = """
set -e
state=$1 python=$2 checkout=$3 home=$4; shift 4
mount --bind "$state" /mnt
mount -t tmpfs -o size=1m tmpfs /media
mkdir /media/python /media/checkout
mount --bind "$python" /media/python
mount --bind "$checkout" /media/checkout
mount -t tmpfs -o mode=755,size=1m tmpfs "$home"
mount -t tmpfs -o mode=1777 tmpfs /tmp
put_back() {
    [ -d "$2" ] || { mkdir -p "$2"; mount --bind "/media/$1" "$2"; }
    umount "/media/$1"
}
put_back python "$python"
put_back checkout "$checkout"
umount /media
for target in $(findmnt -rn -o TARGET -t noproc,nosysfs,notmpfs,nodevtmpfs,nocgroup,nocgroup2,nodevpts); do
    [ "$target" = /mnt ] || mount -o remount,bind,ro "$target"
done
cd /mnt
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \\
    env -i PATH="$PATH" HOME=/mnt/home PYTHONDONTWRITEBYTECODE=1 "$@"
"""
ATTEMPTS = """
import os
for folder in ("/", "/etc", "/var", "/usr", "/opt"):
    try:
        open(os.path.join(folder, "openegress-test"), "w")
    except OSError as error:
        print(folder, error.strerror)
print(*(line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs"))), sep="")
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and become another user"),
    pytest.mark.skipif(not shutil.which("Xvfb") or not shutil.which("setpriv"), reason="needs Xvfb, setpriv"),
]


def enter(state: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs in `state`, which is the only folder on disk that it can write to."""
    folders = [str(each) for each in (state, sys.base_prefix, ROOT, Path.home())]
    entered = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", *folders]
    return subprocess.run([*entered, sys.executable, *command], capture_output=True, text=True, timeout=120)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    for folder in (tmp_path, tmp_path / "home"):
        os.chown(folder, NOBODY, NOBODY)
    return tmp_path


def test_nothing_can_be_written_and_nothing_be_done(state: Path) -> None:
    told = enter(state, "-c", ATTEMPTS)
    assert told.returncode == 0, told.stderr
    refused = [line for line in told.stdout.splitlines() if line.endswith("Read-only file system")]
    assert len(refused) == 5, told.stdout
    found = dict(line.split(":\t") for line in told.stdout.splitlines() if ":\t" in line)
    assert found.pop("NoNewPrivs") == "1"
    assert len(found) == 5 and {int(value, 16) for value in found.values()} == {0}, found


async def test_a_page_is_recorded(state: Path) -> None:
    async with PageServer() as pages:
        url = pages.url("pattern.html?tone=1&busy=1")
        record = ("-m", "openegress.cli", "record", "--duration", "3s", url, "/mnt/page.mp4")
        told = await asyncio.to_thread(enter, state, *record)
    assert told.returncode == 0, told.stderr
    facts = probe(state / "page.mp4")
    assert facts.audio is not None and facts.audio.contiguous
    read = counters(state / "page.mp4")
    assert read.in_order and len(read.values) > 60
