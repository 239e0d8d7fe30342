"""When a recording sheds, and what."""

import subprocess
import sys
from pathlib import Path

import pytest

from openegress.core import ipc
from openegress.core.plan import Plan, WebSource
from openegress.handler.cage import Work
from openegress.handler.loop import HandlerLoop
from openegress.source.memory import MemoryLimit, Shedding, process_bytes

NOTHING, QUEUES, TRACK = Shedding


@pytest.mark.parametrize(
    ("readings", "shed"),
    [
        pytest.param([50, 100], [NOTHING, NOTHING], id="enough"),
        pytest.param([101, 80, 101], [QUEUES, NOTHING, QUEUES], id="queues were it"),
        pytest.param([101, 101, 95, 89, 99], [QUEUES, TRACK, TRACK, NOTHING, NOTHING], id="videos were it"),
    ],
)
def test_a_ceiling(readings: list[int], shed: list[Shedding]) -> None:
    ceiling = MemoryLimit(100)
    assert [ceiling.look(each) for each in readings] == shed


def test_no_ceiling() -> None:
    assert MemoryLimit(0).look(10**12) is NOTHING


# A process of its own: one that has run other tests fills what those have freed before it grows.
READINGS = """
from openegress.source.memory import release_free_memory, process_bytes

print(process_bytes("self"))
held = [bytes(500) for _ in range(200_000)]
print(process_bytes("self"))
del held
release_free_memory()
print(process_bytes("self"))
"""


def test_what_is_held_is_seen_and_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", READINGS], capture_output=True, text=True, check=True)
    before, held, after = map(int, run.stdout.split())
    assert held - before > 80_000_000
    assert after - before < 40_000_000


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert process_bytes(2**22 + 1) == 0


LIMITED = """
import sys
from pathlib import Path
from openegress.handler.loop import RECOVERY_BYTES
from openegress.media import duration
from openegress.source import memory

memory.limit(RECOVERY_BYTES)
path = Path(sys.argv[1])
print(duration.duration_ns(path), duration.holds_media(path), memory.process_bytes("self") < 2**28)
"""


def test_a_file_that_claims_gigabytes_gets_none() -> None:
    """One of 1.3 kB, which claims 2.5 billion samples."""
    found = Path(__file__).parents[1] / "fuzz/corpus/mp4_recovery/found-3"
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, str(found)], check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == ["0", "False", "True"]


# The process may have been started by one that avoids them: a supervisor, or a container's first process.
HUGE = """
import ctypes
from openegress.source import memory

ctypes.CDLL(None).prctl(memory._PR_SET_THP_DISABLE, 0, 0, 0, 0)

def told():
    rows = open("/proc/self/status").read().splitlines()
    return next(row.split()[1] for row in rows if row.startswith("THP_enabled:"))

print(told())
memory.avoid_huge_pages()
print(told())
"""


def test_a_process_that_avoids_huge_pages_gets_none() -> None:
    run = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "0"]


class _Mute:
    def send(self, message: ipc.ToWorker) -> None:
        """Nobody listens."""


@pytest.mark.parametrize(("work", "avoids"), [(work, work is not Work.PAGE) for work in Work])
def test_all_handlers_but_those_of_browsers_avoid_huge_pages(
    work: Work, avoids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("openegress.source.memory.avoid_huge_pages", lambda: asked.append(True))
    loop = HandlerLoop(_Mute())  # type: ignore[arg-type]
    loop._settings = ipc.HandlerSettings("/nowhere", confined=False)
    plan = Plan("EG_x", source=WebSource("http://127.0.0.1/"), outputs=(), video=None, audio=None)
    loop._cage(plan, work)
    assert bool(asked) is avoids
