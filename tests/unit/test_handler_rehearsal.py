"""What is done before handlers are forked: it saves each of them memory, and leaves nothing behind."""

import json
import subprocess
import sys

COLD_MIB = 8.0
"""A first DTLS took 11 MiB, another one 2."""


def run(program: str) -> dict[str, object]:
    """What a process of its own prints last; nothing of this one's libraries is warm there."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_rehearsal_leaves_no_thread_no_descriptor_and_no_child() -> None:
    told = run(
        """
import json, os
from openegress.handler import rehearsal
def held():
    return [len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))]
before = held()
rehearsal.rehearse()
children = open(f"/proc/self/task/{os.getpid()}/children").read()
print(json.dumps({"before": before, "after": held(), "children": children}))
"""
    )
    assert told["after"] == told["before"]
    assert told["children"] == ""


FORKED = """
import asyncio, gc, json, os
from openegress.handler import rehearsal
from openegress.room.transport.dtls import DtlsSrtp
from openegress.room.transport.ice import IceConnection
from openegress.room.transport.fingerprint import Fingerprint

def private_mib():
    rows = [line.split() for line in open("/proc/self/smaps_rollup")]
    return sum(int(row[1]) for row in rows if row[0].startswith("Private_")) / 1024

async def joined():
    sent = []
    before = private_mib()
    dtls = DtlsSrtp(sent.append)
    dtls.start(Fingerprint("sha-256", ""))
    grown = private_mib() - before
    # Behind the headers of the record and the message, and the version, lies what the client has thrown dice
    # for (RFC 5246 section 7.4.1.2).
    thrown = sent[0][27:59].hex()
    ice = IceConnection(on_data=print, on_lost=print, loopback=True)
    return {"grown": grown, "secrets": [dtls.fingerprint.value, thrown, ice.local_password]}

def handler():
    read, write = os.pipe()
    if not os.fork():
        os.write(write, json.dumps(asyncio.run(joined())).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        told = json.loads(pipe.read())
    os.wait()
    return told
"""


def test_a_handler_has_the_memory_of_its_first_handshake_in_common_with_others() -> None:
    told = run(FORKED + "rehearsal.rehearse(); gc.freeze(); print(json.dumps(handler()))")
    grown = told["grown"]
    assert isinstance(grown, float) and grown < COLD_MIB


def test_handlers_have_no_secret_in_common() -> None:
    """What makes random numbers has been used before the fork."""
    told = run(FORKED + "rehearsal.rehearse(); print(json.dumps({'both': [handler(), handler()]}))")
    both = told["both"]
    assert isinstance(both, list)
    one, other = (each["secrets"] for each in both)
    assert len({*one, *other}) == 6
