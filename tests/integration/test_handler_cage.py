"""A handler in its cage that tries to get out, and one that records while it is in there."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openegress.core import ipc, storages
from openegress.core import plan as plans
from openegress.core.codecs import Container
from openegress.core.events import Ended, FileUpdate
from openegress.core.plan import Plan
from openegress.core.units import S
from openegress.handler import landlock, seccomp
from openegress.handler.recording_journal import RecordingJournal
from openegress.output.spool_file import HEADER_BYTES
from openegress.worker.fork_client import ForkClient
from openegress.worker.local_puts import LocalPuts
from openegress.worker.process import HandlerProcess
from openegress.worker.put_permits import RecordingPermits

pytestmark = pytest.mark.skipif(
    landlock.abi() < 6 or not seccomp.is_there(),
    reason="this kernel has no Landlock with scopes, or no seccomp",
)

TRIES = """
import asyncio, ctypes, json, os, resource, signal, socket, subprocess, sys, threading
from pathlib import Path
from openegress.core import plan as plans
from openegress.core import storages
from openegress.handler.cage import Cage, Work

told = json.loads(sys.argv[1])
spool, out, other, victim = Path(told["spool"]), Path(told["out"]), Path(told["other"]), told["victim"]
own = spool / "EG_1"

def write(path):
    path.write_bytes(b"x" * 10)
    return path.stat().st_size

def part():
    (own / "part").write_bytes(b"x" * 10)
    return own / "part"

def replaced_by_a_link():
    (own / "same").symlink_to(out / "mine" / "theirs.mp4")
    return write(own / "same")

def take_space():
    from openegress.output.file.spare_space import claim, draft_of
    (own / "recording.mp4").write_bytes(bytes(100_000))
    claim(own / "recording.mp4")
    assert draft_of(own / "recording.mp4").stat().st_blocks

def new_thread():
    made = []
    thread = threading.Thread(target=lambda: made.append(attempt(lambda: Path("/etc/shadow").read_bytes())))
    thread.start()
    thread.join()
    return made[0]

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNET, SIGCHLD = 0x10000000, 0x40000000, 17

def call(x86, arm, *arguments):
    found = libc.syscall(arm if os.uname().machine == "aarch64" else x86, *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found

def from_memory():
    fd = os.memfd_create("a program")
    os.write(fd, Path("/proc/self/exe").read_bytes()[:4096])
    call(322, 281, fd, b"", None, None, 0x1000)

def connect(address):
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(address)

def in_datagrams(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", address)

def in_a_pair():
    one, other = socket.socketpair()
    one.send(b"x")
    return other.recv(1)

def slow_down(pid):
    os.sched_setaffinity(pid, os.sched_getaffinity(0))

def from_a_handler(what):
    pidfd = os.pidfd_open(victim)
    signal.pidfd_send_signal(pidfd, what)

def attempt(what):
    try:
        return [True, str(what())]
    except OSError as error:
        return [False, error.strerror]

ATTEMPTS = {
    # its own
    "write in its folder": lambda: write(own / "a"),
    "make a folder in it": lambda: (own / "deep" / "er").mkdir(parents=True),
    "take space beforehand": take_space,
    "learn of certificates": lambda: len(os.listdir("/etc/ssl/certs")),
    "learn of names": lambda: socket.getaddrinfo("localhost", 80),
    "open a socket": lambda: socket.socket(socket.AF_INET6).close(),
    "import a module": lambda: __import__("xml.dom.minidom"),
    "start a thread": lambda: threading.Thread(target=int).start(),
    "speak to itself": in_a_pair,
    "choose its cores": lambda: slow_down(0),
    "know its limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    # not its own
    "run a program": lambda: subprocess.run(["/bin/true"]),
    "spawn a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "run itself": lambda: os.execv(sys.executable, [sys.executable, "-V"]),
    "fork": os.fork,
    "read passwords": lambda: Path("/etc/shadow").read_bytes(),
    "read them in a new thread": new_thread,
    "read its neighbour": lambda: (spool / "EG_2" / "journal.jsonl").read_bytes(),
    "store a file itself": lambda: write(out / "mine" / "a.mp4"),
    "link a file to its place": lambda: os.link(part(), out / "mine" / "a.mp4"),
    "move a file to its place": lambda: os.rename(part(), out / "mine" / "a.mp4"),
    "make a folder beside it": lambda: (out / "mine" / "a").mkdir(),
    "replace what another has stored": lambda: os.rename(part(), out / "mine" / "theirs.mp4"),
    "write over it": lambda: (out / "mine" / "theirs.mp4").open("r+b"),
    "write through a link": replaced_by_a_link,
    "remove it": lambda: (out / "mine" / "theirs.mp4").unlink(),
    "rename it": lambda: os.rename(out / "mine" / "theirs.mp4", out / "mine" / "a.mp4"),
    "list what lies beside it": lambda: os.listdir(out / "mine"),
    "store beside its outputs": lambda: write(out / "c.mp4"),
    "store in another's folder": lambda: write(out / "theirs" / "c.mp4"),
    "list what others store": lambda: os.listdir(out),
    "cut what another has stored": lambda: os.truncate(out / "theirs" / "a.mp4", 0),
    "read what another has stored": lambda: (out / "theirs" / "a.mp4").read_bytes(),
    "read what another has stored beside": lambda: (out / "mine" / "theirs.mp4").read_bytes(),
    "cut it": lambda: os.truncate(out / "mine" / "theirs.mp4", 0),
    "take it to read it": lambda: os.link(out / "mine" / "theirs.mp4", own / "taken"),
    "move it to read it": lambda: os.rename(out / "mine" / "theirs.mp4", own / "taken"),
    "read the key of seals": lambda: (spool.parent / "seal").read_bytes(),
    "list the spool": lambda: os.listdir(spool),
    "write to its neighbour": lambda: write(spool / "EG_2" / "a"),
    "make a neighbour": lambda: (spool / "EG_3").mkdir(),
    "remove a neighbour's folder": lambda: (spool / "EG_2" / "empty").rmdir(),
    "remove a neighbour's file": lambda: (spool / "EG_2" / "journal.jsonl").unlink(),
    "cut a neighbour's file": lambda: os.truncate(spool / "EG_2" / "journal.jsonl", 0),
    "take a neighbour's file": lambda: os.rename(spool / "EG_2" / "journal.jsonl", own / "theirs"),
    "link a neighbour's file": lambda: os.link(spool / "EG_2" / "journal.jsonl", own / "theirs"),
    "open another folder": lambda: (other / "secret").read_bytes(),
    "climb to it": lambda: (own / ".." / ".." / "other" / "secret").read_bytes(),
    "write beside": lambda: write(other / "a"),
    "write to the temporary folder": lambda: write(Path("/tmp/openegress-cage-test")),
    "change rights": lambda: os.chmod(other, 0o777),
    "change an owner": lambda: os.chown(other, 0, 0),
    "end another process": lambda: os.kill(victim, 15),
    "limit another process": lambda: resource.prlimit(victim, resource.RLIMIT_CPU, (1, 1)),
    "see another's environment": lambda: Path(f"/proc/{victim}/environ").read_bytes(),
    "see another's memory": lambda: Path(f"/proc/{victim}/mem").open("rb"),
    "end it by a descriptor": lambda: from_a_handler(15),
    "slow another process down": lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
    "slow all of its user down": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "move it to one core": lambda: slow_down(victim),
    "let it wait for others": lambda: os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0)),
    "let its disk wait": lambda: call(251, 30, 1, victim, 3 << 13),
    "trace another process": lambda: call(101, 117, 16, victim, 0, 0),
    "be traced": lambda: call(101, 117, 0, 0, 0, 0),
    "read its memory": lambda: call(310, 270, victim, None, 0, None, 0, 0),
    "write its memory": lambda: call(311, 271, victim, None, 0, None, 0, 0),
    "take its descriptor": lambda: call(438, 438, os.pidfd_open(victim), 0, 0),
    "run a program from memory": from_memory,
    "use a ring": lambda: call(425, 425, 8, (ctypes.c_char * 120)()),
    "load a program into the kernel": lambda: call(321, 280, 5, (ctypes.c_char * 120)(), 120),
    "measure the kernel": lambda: call(298, 241, (ctypes.c_char * 120)(), 0, -1, -1, 0),
    "handle page faults": lambda: call(323, 282, 1),
    "keep a key": lambda: call(248, 217, b"user", b"k", b"v", 1, -3),
    "ask for keys": lambda: call(250, 219, 0, -3, 0),
    "have a namespace": lambda: call(272, 97, CLONE_NEWUSER),
    "clone into one": lambda: call(56, 220, CLONE_NEWUSER | CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0),
    "clone by the newer call": lambda: call(435, 435, (ctypes.c_char * 88)(), 88),
    "enter one": lambda: call(308, 268, os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "mount": lambda: call(165, 40, b"none", b"/tmp", b"tmpfs", 0, None),
    "open by a handle": lambda: call(304, 265, -100, (ctypes.c_char * 16)(), 0),
    "share others' memory": lambda: call(29, 194, 0, 4096, 0o1600),
    "read others' messages": lambda: call(68, 186, 0, 0o1600),
    "connect to another's socket": lambda: connect(str(other / "socket")),
    "connect to one without a path": lambda: connect("\\0openegress-cage-test"),
    "tell a datagram": lambda: in_datagrams(str(other / "datagrams")),
    "see packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
}

async def main():
    storage = storages.StoragePlan(storages.LocalStorage(str(out)))
    output = plans.FileOutput("mine/a.mp4", None, storage, False)
    source = plans.MediaSource(ws_url="ws://127.0.0.1:1", token="", room_name="r")
    plan = plans.Plan("EG_1", source, (output,), None, None)
    await Cage(plan, spool, Work.ROOM).enter()
    print(json.dumps({name: attempt(what) for name, what in ATTEMPTS.items()}))

asyncio.run(main())
"""

ITS_OWN = {
    "write in its folder",
    "make a folder in it",
    "take space beforehand",
    "learn of certificates",
    "learn of names",
    "open a socket",
    "import a module",
    "start a thread",
    "know its limits",
    "speak to itself",
    "choose its cores",
}


async def tried(folder: Path) -> dict[str, list[Any]]:
    spool, out, other = folder / "spool", folder / "out", folder / "other"
    for each in (spool / "EG_2" / "empty", other):
        each.mkdir(parents=True)
    (spool / "EG_2" / "journal.jsonl").write_text("a secret")
    (folder / "seal").write_text("a key")
    (other / "secret").write_text("a secret")
    for stored in ("theirs/a.mp4", "mine/theirs.mp4"):
        (out / stored).parent.mkdir(parents=True, exist_ok=True)
        (out / stored).write_text("a recording")
    listening = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    listening.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    names = (str(other / "socket"), "\0openegress-cage-test", str(other / "datagrams"))
    for server, name in zip(listening, names, strict=True):
        server.bind(name)
    for server in listening[:2]:
        server.listen()
    told = {"spool": str(spool), "out": str(out), "other": str(other), "victim": os.getpid()}
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TRIES, json.dumps(told), stdout=asyncio.subprocess.PIPE, cwd=folder
    )
    async with asyncio.timeout(30):
        said, _ = await asked.communicate()
    for server in listening:
        server.close()
    assert asked.returncode == 0
    found: dict[str, list[Any]] = json.loads(said)
    assert (spool / "EG_2" / "journal.jsonl").read_text() == "a secret"
    assert {path.name for path in (out / "mine").iterdir()} == {"theirs.mp4"}
    assert {path.name for path in out.iterdir()} == {"mine", "theirs"}
    assert all(path.read_text() == "a recording" for path in out.glob("*/theirs.mp4"))
    return found


async def test_it_has_what_is_its_own_and_nothing_else(tmp_path: Path) -> None:
    found = await tried(tmp_path)
    assert {name for name, (done, _) in found.items() if done} - {"read them in a new thread"} == ITS_OWN
    assert found["read them in a new thread"][1] == "[False, 'Permission denied']"
    refused = {said for name, (done, said) in found.items() if not done}
    not_there = "Function not implemented"  # libc takes the older call then
    assert found["clone by the newer call"][1] == not_there
    assert refused == {"Permission denied", "Operation not permitted", "Invalid cross-device link", not_there}


CLIP_TRIES = """
import asyncio, json, os, sys
from pathlib import Path
from openegress.core import plan as plans
from openegress.core import storages
from openegress.core.clip_plan import ClipPlan, StoredPart
from openegress.handler.cage import Cage, Work

spool, out = map(Path, sys.argv[1:])

def attempt(what):
    try:
        return [True, str(what())]
    except OSError as error:
        return [False, error.strerror]

def cut():
    (spool / "CL_1" / "clip").write_bytes(b"x" * 10)

def stored():
    cut()
    os.link(spool / "CL_1" / "clip", out / "clips" / "new.mp4")

ATTEMPTS = {
    "read what it is cut from": (out / "calls" / "a.mp4").read_bytes,
    "cut it": cut,
    "store it": stored,
    "replace an earlier clip": lambda: os.rename(spool / "CL_1" / "clip", out / "clips" / "theirs.mp4"),
    "remove an earlier clip": (out / "clips" / "theirs.mp4").unlink,
    "cut what it is cut from": lambda: os.truncate(out / "calls" / "a.mp4", 0),
    "remove it": (out / "calls" / "a.mp4").unlink,
    "read what lies beside": (out / "calls" / "theirs.mp4").read_bytes,
    "remove what lies beside": (out / "calls" / "theirs.mp4").unlink,
    "read what lies elsewhere": (out / "others" / "theirs.mp4").read_bytes,
    "move it to read it": lambda: os.rename(out / "others" / "theirs.mp4", out / "clips" / "a.mp4"),
    "list what others store": lambda: os.listdir(out / "others"),
    "list what lies beside": lambda: os.listdir(out / "calls"),
    "read an earlier clip": (out / "clips" / "theirs.mp4").read_bytes,
    "read another recording": (spool / "EG_1" / "journal.jsonl").read_bytes,
}

async def main():
    storage = storages.StoragePlan(storages.LocalStorage(str(out)))
    recorded = plans.FileOutput("calls/a.mp4", None, storage, False)
    target = plans.FileOutput("clips/{from}-{to}", None, storage, False)
    plan = ClipPlan("CL_1", recorded, target, stored=(StoredPart("calls/a.mp4", 1, 1),))
    await Cage(plan, spool, Work.CLIP).enter()
    print(json.dumps({name: attempt(what) for name, what in ATTEMPTS.items()}))

asyncio.run(main())
"""


async def test_what_makes_a_clip_has_nothing_but_what_it_is_cut_from(tmp_path: Path) -> None:
    spool, out = tmp_path / "spool", tmp_path / "out"
    files = ("calls/a.mp4", "calls/theirs.mp4", "others/theirs.mp4", "clips/theirs.mp4")
    for each in (*(out / name for name in files), spool / "EG_1" / "journal.jsonl"):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text("a secret")
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIP_TRIES, str(spool), str(out), stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    async with asyncio.timeout(60):
        said, _ = await asked.communicate()
    found: dict[str, list[Any]] = json.loads(said)
    assert {name for name, (done, _) in found.items() if done} == {"read what it is cut from", "cut it"}
    assert all((out / name).read_text() == "a secret" for name in files)
    assert {path.name for path in (out / "clips").iterdir()} == {"theirs.mp4"}


# --- a handler of a worker


@pytest.fixture
async def forks() -> AsyncIterator[ForkClient]:
    forks = ForkClient()
    yield forks
    await forks.close()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def until_asked(handler: HandlerProcess, asked: asyncio.Event) -> None:
    async def end() -> None:
        async for message in handler.messages():
            if isinstance(message, ipc.Log):
                assert message.level not in ("warning", "error"), message.event

    ending = asyncio.create_task(end())
    try:
        async with asyncio.timeout(20):
            await asked.wait()
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


@pytest.mark.parametrize("confined", [True, False])
async def test_a_room_is_joined_from_within(forks: ForkClient, tmp_path: Path, confined: bool) -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    storage = storages.StoragePlan(storages.LocalStorage(str(tmp_path / "out")), retry_for_s=0)
    plan = Plan(
        "EG_1",
        plans.MediaSource(ws_url=url, token="t", room_name="r"),
        (plans.FileOutput("a.mp4", Container.MP4, storage, False),),
        plans.VideoEncoding(320, 180, 15, 500, 2.0),
        None,
    )
    settings = ipc.HandlerSettings(str(tmp_path / "spool"), confined=confined)
    handler = await HandlerProcess.spawn(forks, settings)
    handler.send(ipc.Run(plan))
    await until_asked(handler, asked)
    told = status(handler.pid)
    assert (told["NoNewPrivs"], told["Seccomp"]) == (("1", "2") if confined else ("0", "0"))
    handler.kill()
    await handler.reap()
    server.close()


async def test_what_it_may_not_remove_its_worker_does(forks: ForkClient, tmp_path: Path) -> None:
    """A session that ends as it starts leaves its folder empty."""
    storage = storages.StoragePlan(storages.LocalStorage(str(tmp_path / "out")), retry_for_s=0)
    plan = Plan(
        "EG_1",
        plans.MediaSource(ws_url="ws://127.0.0.1:1", token="t", room_name="r"),
        (plans.FileOutput("a.mp4", Container.MP4, storage, False),),
        plans.VideoEncoding(320, 180, 15, 500, 2.0),
        None,
    )
    handler = await HandlerProcess.spawn(forks, ipc.HandlerSettings(str(tmp_path / "spool")))
    handler.send(ipc.Run(plan))
    async with asyncio.timeout(30):
        said = [message async for message in handler.messages()]
    assert any(isinstance(each, ipc.Ready) for each in said)
    assert [each.event for each in said if isinstance(each, ipc.Log) and each.level == "error"] == []
    await handler.reap()
    assert list((tmp_path / "spool").iterdir()) == []


FUZZED = Path(__file__).parents[1] / "fuzz" / "corpus"


class Left:
    """A recording to "a.mp4" that a dead handler has left, and a handler that recovers it."""

    def __init__(self, folder: Path, media: bytes, name: str = "a.mp4") -> None:
        """`name` is what the journal says that the file is named."""
        self.spool, self.out = folder / "spool", folder / "out"
        storage = storages.StoragePlan(storages.LocalStorage(str(self.out)), retry_for_s=0)
        output = plans.FileOutput("a.mp4", Container.MP4, storage, False)
        source = plans.MediaSource(ws_url="ws://127.0.0.1:1", token="t", room_name="r")
        self.plan = Plan("EG_1", source, (output,), plans.VideoEncoding(320, 180, 15, 500, 2.0), None)
        journal = RecordingJournal.create(self.spool, self.plan)
        journal.note(FileUpdate(0, name, S, 2 * S, S, 1000))
        self.recorded = journal.folder / "file-0" / "recording.mp4"
        self.recorded.parent.mkdir()
        self.recorded.write_bytes(media)
        journal.release()

    async def recover(self, forks: ForkClient) -> Ended:
        handler = await HandlerProcess.spawn(forks, ipc.HandlerSettings(str(self.spool)))
        puts = LocalPuts("EG_1", RecordingPermits(self.plan, None, lambda data: ""))
        handler.send(ipc.Recover(self.plan))
        said: list[ipc.ToWorker] = []
        async with asyncio.timeout(30):
            async for message in handler.messages():
                said.append(message)
                if isinstance(message, ipc.PutFile):
                    puts.begin(message, handler.folder, handler.send)
        await puts.end()
        await handler.reap()
        (ended,) = [each for each in said if isinstance(each, Ended)]
        return ended


@pytest.mark.parametrize(
    ("media", "code"),
    [("mp4_boxes/ours", ""), ("mp4_recovery/found-3", "internal")],
    ids=["a recording", "one that claims gigabytes"],
)
async def test_what_was_left_is_recovered_within_a_gigabyte(
    forks: ForkClient, tmp_path: Path, media: str, code: str
) -> None:
    # As large as if there were frames in it: of less nobody thinks that anything was recorded.
    left = Left(tmp_path, (FUZZED / media).read_bytes() + bytes(HEADER_BYTES if code else 0))
    ended = await left.recover(forks)
    assert ended.code == code, ended.error
    is_stored = (left.out / "a.mp4").is_file()
    assert is_stored is (code == "") and left.recorded.exists() is not is_stored


async def test_a_recovery_stores_under_no_name_that_another_recording_has(
    forks: ForkClient, tmp_path: Path
) -> None:
    """Whoever took the first handler over has written the journal."""
    left = Left(tmp_path, (FUZZED / "mp4_boxes/ours").read_bytes(), "theirs.mp4")
    left.out.mkdir()
    (left.out / "theirs.mp4").write_text("a recording")
    ended = await left.recover(forks)
    assert ended.code == "permission_denied" and "theirs.mp4" in ended.error
    assert [path.name for path in left.out.iterdir()] == ["theirs.mp4"] and left.recorded.exists()
    assert (left.out / "theirs.mp4").read_text() == "a recording"
