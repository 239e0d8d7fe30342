"""What an egress costs by its plan: sizes, rates and images count, and cannot be had for nothing."""

from typing import Any

import pytest

from openegress.core.codecs import EncoderSpeed, VideoCodec
from openegress.core.errors import EgressError
from openegress.core.plan import ImageOutput, Plan, VideoEncoding, WebSource
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.validate import Context, plan_of
from openegress.worker.admission import Cost
from openegress.worker.cost import RATE_1080P60, of_plan

MIB = 2**20
BASE = Cost(0.5, 500 * MIB)
STORAGE = StoragePlan(LocalStorage("/out"))


def plan(size: tuple[int, int, int] | None, *images: tuple[int, int, int]) -> Plan:
    video = VideoEncoding(size[0], size[1], size[2], 3000, 4.0) if size else None
    outputs = tuple(ImageOutput("", "i", s, w, h, "index", STORAGE) for w, h, s in images)
    return Plan("EG_1", WebSource(url="http://a"), outputs, video, None)


@pytest.mark.parametrize(
    ("size", "cores"),
    [
        (None, 0.5),
        ((640, 360, 15), 0.5),
        ((1280, 720, 30), 0.5),
        ((1280, 720, 60), 1.0),
        ((1920, 1080, 30), 1.125),
        ((3840, 2160, 60), 9.0),
        ((7680, 4320, 120), 72.0),
    ],
)
def test_size_and_rate(size: tuple[int, int, int] | None, cores: float) -> None:
    assert of_plan(BASE, plan(size)).cores == pytest.approx(cores)


def test_a_configured_cost_holds_up_to_the_largest_preset() -> None:
    configured = Cost(3.0, 500 * MIB, RATE_1080P60)
    assert of_plan(configured, plan((1920, 1080, 60))).cores == 3.0
    assert of_plan(configured, plan((3840, 2160, 60))).cores == 12.0


def test_a_quick_encoder_costs_less_unless_the_cost_is_configured() -> None:
    def at(speed: EncoderSpeed, base: Cost) -> float:
        video = VideoEncoding(1280, 720, 30, 3000, 4.0, speed=speed)
        return of_plan(base, Plan("EG_1", WebSource(url="http://a"), (), video, None)).cores

    quick = [at(speed, BASE) for speed in EncoderSpeed]
    assert quick == sorted(quick) and 0.3 < quick[0] < quick[1] < quick[2] == BASE.cores
    configured = Cost(3.0, 500 * MIB, RATE_1080P60)
    assert {at(speed, configured) for speed in EncoderSpeed} == {3.0}


def test_other_codecs_cost_more_whoever_says_what_h264_costs() -> None:
    def at(codec: VideoCodec, base: Cost) -> float:
        video = VideoEncoding(1280, 720, 30, 3000, 4.0, codec)
        return of_plan(base, Plan("EG_1", WebSource(url="http://a"), (), video, None)).cores / base.cores

    for base in (BASE, Cost(3.0, 500 * MIB, RATE_1080P60)):
        costs = [
            at(codec, base) for codec in (VideoCodec.H264, VideoCodec.VP9, VideoCodec.AV1, VideoCodec.H265)
        ]
        assert costs == sorted(costs) and costs[0] == 1.0 and costs[-1] < 2


def test_memory_of_large_pictures() -> None:
    assert of_plan(BASE, plan((1280, 720, 30))).memory_bytes == BASE.memory_bytes
    assert of_plan(BASE, plan((7680, 4320, 30))).memory_bytes > 1500 * MIB


def test_images() -> None:
    one = of_plan(BASE, plan((1280, 720, 30), (0, 0, 10)))
    assert 0.5 < one.cores < 0.51 and one.memory_bytes > BASE.memory_bytes
    many = of_plan(BASE, plan((1280, 720, 30), *[(7680, 4320, 1)] * 20))
    assert many.cores > 10 and many.memory_bytes > 2000 * MIB


def asked(**body: Any) -> Plan:
    request = StartEgressRequest(egress_id="EG_1", web={"url": "http://a", **body})
    return plan_of(request, Context(now_ns=0, storage=STORAGE))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"image_outputs": [{}] * 21}, "image_outputs (there are 21"),
        ({"stream_outputs": [{"urls": ["rtmp://h/a/b"] * 51}]}, "stream urls (there are 51"),
    ],
)
def test_so_many_are_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(EgressError) as refused:
        asked(**body)
    assert field in refused.value.message


def test_as_many_as_are_taken() -> None:
    found = asked(image_outputs=[{"filename_prefix": f"p{n}"} for n in range(20)])
    assert of_plan(BASE, found).cores > of_plan(BASE, asked(image_outputs=[{}])).cores
