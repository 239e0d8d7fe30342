"""With which speed of the encoder a recording begins that leaves it to the machine."""

from dataclasses import replace
from typing import cast

import pytest

from openegress.core.codecs import LIVE_SPEEDS, EncoderSpeed
from openegress.core.plan import Plan, VideoEncoding, WebSource
from openegress.core.render import Render
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.request.context import Context
from openegress.request.request_kind import RequestKind
from openegress.worker.admission import Cost, Load
from openegress.worker.capacity import Capacity
from openegress.worker.config import WorkerConfig
from openegress.worker.load import LoadMeter
from openegress.worker.supervisor import Supervisor

ULTRAFAST, SUPERFAST, VERYFAST = LIVE_SPEEDS
KIND, GIB = RequestKind.WEB, 2**30


class Meter:
    def __init__(self, free_cores: float) -> None:
        self.load = Load(4, 4 - free_cores, 8 * GIB, 8 * GIB)

    def sample(self) -> Load:
        return self.load


def capacity(free_cores: float) -> Capacity:
    context = Context(now_ns=0, storage=StoragePlan(LocalStorage("/out")))
    config = WorkerConfig(lambda: context, dict.fromkeys(RequestKind, Cost(1.0, 1)))
    return Capacity(config, cast("LoadMeter", Meter(free_cores)), cast("Supervisor", ()))


def plan(*, adapts: bool = True, speed: EncoderSpeed = VERYFAST, render: Render = Render.LIVE) -> Plan:
    video = VideoEncoding(1280, 720, 30, 3000, 4.0, speed=speed, adapts=adapts)
    return Plan("EG_1", WebSource(url="http://a"), (), video, None, render=render)


@pytest.mark.parametrize(
    ("free_cores", "speed"),
    [(2.0, VERYFAST), (1.0, VERYFAST), (0.9, SUPERFAST), (0.8, ULTRAFAST), (0.1, ULTRAFAST)],
)
def test_the_slowest_that_there_is_room_for(free_cores: float, speed: EncoderSpeed) -> None:
    found = capacity(free_cores).suited(KIND, plan()).video
    assert found is not None and found.adapts and found.speed is speed


def test_what_is_not_left_to_the_machine_stays() -> None:
    for each in (plan(adapts=False), plan(adapts=False, speed=SUPERFAST), plan(render=Render.DEFERRED)):
        assert capacity(0.1).suited(KIND, each) == each


def test_it_is_let_in_where_a_quick_one_has_room() -> None:
    taken = capacity(0.8)
    taken.reserve("EG_0", KIND, plan(adapts=False))
    free = replace(cast("Meter", taken._meter).load, used_cores=4 - 1.8)
    cast("Meter", taken._meter).load = free
    assert taken.refusal(KIND, plan()) is None
    refusal = taken.refusal(KIND, plan(adapts=False))
    assert refusal is not None and refusal.message.startswith("not enough CPU")
