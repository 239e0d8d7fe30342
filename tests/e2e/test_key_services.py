"""Rooms whose keys a service of the user's gives."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from openegress.source.room.composite.rectangles import Size, grid_rects
from testkit.browser_publisher import publishing
from testkit.key_server import Asked, KeyServer
from testkit.livekit_server import LivekitServer, free_port
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Codec, VideoSpec
from testkit.parts import Parts
from testkit.probe import Rect, counters, frames, has_tone, tones
from testkit.service import Service, location
from testkit.written import holding, written

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 3.0
LEAST = 20
"""Different pictures that are seen of a track, however busy the machine is."""
OF_ANN, LATER, OF_BEN = "ann's own passphrase", "ann's second passphrase", "ben's own passphrase"
OF_DAN = "dan's own passphrase"


@dataclass
class World:
    parts: Parts
    keys: KeyServer
    metrics: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder, port = tmp_path_factory.mktemp("key-services"), free_port()
    async with LivekitServer() as livekit, KeyServer() as keys:
        keys.trust(livekit.api_key, livekit.api_secret)
        config = {
            "key_services": [{"rooms": ["each", "browser", "none", "down"], "url": keys.url}],
            "logging": {"level": "debug"},
            "prometheus_port": port,
        }
        async with Service(folder, livekit, config) as service:
            yield World(Parts(livekit, service), keys, f"http://127.0.0.1:{port}/metrics")


@pytest_asyncio.fixture(loop_scope="module")
async def world(servers: World) -> AsyncIterator[World]:
    async with servers.parts.people:
        yield servers


def camera(codec: Codec = "vp8") -> VideoSpec:
    return VideoSpec(codec, width=320, height=180, kbps=400)


@pytest.mark.quiet
async def test_each_has_a_key_of_its_own_and_changes_it(world: World) -> None:
    """Two keys, one person in the clear, and dan, of whom the service knows nothing at first; then ann takes
    another key, and its answer has that of dan too."""
    parts, keys = world.parts, world.keys

    def of(egress_id: str) -> list[Asked]:
        return [each for each in keys.asked if each["egressInfo"]["egressId"] == egress_id]

    of_all: list[dict[str, Any]] = [
        {"identity": "ann", "key": OF_ANN},
        {"identity": "ben", "key": OF_BEN, "index": 0},
    ]
    keys.keys["each"] = of_all
    ann = await parts.join("each", "ann", camera(), AudioSpec(440), OF_ANN.encode())
    await parts.join("each", "ben", camera("h264"), AudioSpec(660), OF_BEN.encode())
    await parts.join("each", "cho", camera(), AudioSpec(880), b"")
    await parts.join("each", "dan", None, AudioSpec(1230), OF_DAN.encode())
    output = {"filepath": "each.mp4"}
    request = {"room_name": "each", "layout": "grid", "file_outputs": [output]}
    egress_id = (await parts.service.call("StartRoomCompositeEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    assert of(egress_id)[0]["identities"] == ["ann", "ben", "dan"]
    await asyncio.sleep(SECONDS)
    found = written(parts.service.folder)
    of_dan = {"identity": "dan", "key": OF_DAN}
    keys.keys["each"] = [*of_all, {"identity": "ann", "key": LATER, "index": 3}, of_dan]
    changed = ann.sent["camera"][-1].counter
    ann.change_key(LATER.encode(), 3)
    await asyncio.sleep(SECONDS)
    shown = [await parts.service.dashboard(), info := await parts.service.finish(egress_id)]
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    asked = [each for each in of(egress_id) if each.get("keyIndex") == 3]
    assert asked and all(each["identities"] == ["ann"] for each in asked)

    heard = tones(location(info), min_level=0.003)
    assert [hz for hz in (440, 660, 880, 1230) if has_tone(heard, hz)] == [440, 660, 880, 1230]
    of_three, of_four = (
        [Rect(each.x, each.y, each.width, each.height) for each in grid_rects(many, Size(1280, 720))]
        for many in (3, 4)
    )
    # Once dan is heard, he has a tile too, and cho's moves.
    read = [counters(location(info), tile) for tile in (*of_three, of_four[2])]
    assert all(each.unique > LEAST for each in read)
    assert all(each.in_order for each in read[:2])
    assert read[0].values[-1] > changed + 5, "ann is seen with her second key"

    manifest = json.loads(location(info).with_name(f"{egress_id}.json").read_text())
    losses = manifest["left_out"]["tracks"]
    assert not any(each["unusable_pictures"] for each in losses if not each["lost_packets"]), losses
    (left_out,) = [each for each in losses if each["left_out_ms"]]
    assert (left_out["identity"], left_out["left_out_ms"] > 1000) == ("dan", True)
    assert "its key service gave no key for it" in left_out["left_out_why"]
    assert "(dan: it is end-to-end encrypted, and its key service gave no key for it" in info["details"]
    async with aiohttp.ClientSession() as http, http.get(world.metrics) as answer:
        scraped = await answer.text()
    assert "openegress_key_service_answers_total{" in scraped and 'result="given"' in scraped

    found |= {"answers": json.dumps(shown).encode(), "metrics": scraped.encode()}
    found |= {f"{name} at last": text for name, text in written(parts.service.folder).items()}
    assert any(name.endswith("/environ") for name in found)
    assert holding(found, *(each.encode() for each in (OF_ANN, LATER, OF_BEN, OF_DAN))) == []


async def test_a_browser_that_changes_its_only_key(world: World) -> None:
    """client-sdk-js puts the key of all at index 0, and another one in its place."""
    parts, keys = world.parts, world.keys
    keys.keys["browser"] = [{"key": OF_ANN}]
    async with (
        PageServer() as pages,
        publishing(parts.livekit, pages, "browser", "ann", "vp8", OF_ANN) as ann,
    ):
        request = {"room_name": "browser", "track_id": ann.camera, "file": {"filepath": "browser.webm"}}
        egress_id = (await parts.service.call("StartTrackEgress", **request))["egress_id"]
        await parts.service.active(egress_id)
        await asyncio.sleep(SECONDS)
        keys.keys["browser"] = [{"key": LATER}]
        asked, changed_s = len(keys.of("browser")), time.time()
        await ann.tab.run(f"keyProvider.setKey({json.dumps(LATER)})")
        await keys.until("browser", asked + 1)
        await asyncio.sleep(SECONDS)
        info = await parts.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    began_s = int(info["file_results"][0]["started_at"]) / 1e9
    seen = [(began_s + at_s, picture.to_ndarray(format="gray")) for at_s, picture in frames(location(info))]
    after = [picture.astype(int) for at_s, picture in seen if at_s > changed_s + 0.5]
    # Between two layers the size changes.
    pairs = [(one, two) for one, two in pairwise(after) if one.shape == two.shape]
    assert sum(np.abs(two - one).max() > 50 for one, two in pairs) > LEAST, "it rolls on"
    manifest = json.loads(location(info).with_name(f"{egress_id}.json").read_text())
    assert not [each for each in manifest.get("left_out", {}).get("tracks", []) if each["left_out_ms"]]


@pytest.mark.parametrize("room", ["none", "down"])
async def test_what_was_named_is_refused_without_a_key(world: World, room: str) -> None:
    """The service knows nothing of the room, or does not answer."""
    parts, keys = world.parts, world.keys
    is_down = room == "down"
    keys.answer = lambda asked: web.Response(status=503) if asked["room"]["name"] == "down" else None
    ann = await parts.join(room, "ann", None, AudioSpec(440), OF_ANN.encode())
    request = {"track_id": ann.sid("microphone"), "file": {"filepath": room}}
    info = await parts.service.call("StartTrackEgress", room_name=room, **request)
    info = await parts.service.wait(info["egress_id"], timeout_s=30)
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 412), info
    assert "of ann is end-to-end encrypted, and its key service gave no key for it" in info["error"]
    assert ("it answers 503" in info["error"]) is is_down


async def test_one_recording_without_a_server(world: World, tmp_path: Path) -> None:
    parts, keys = world.parts, world.keys
    keys.keys["shot"] = [{"key": OF_ANN}]
    await parts.join("shot", "ann", None, AudioSpec(440), OF_ANN.encode())
    config = {
        "api_key": parts.livekit.api_key,
        "api_secret": parts.livekit.api_secret,
        "ws_url": parts.livekit.ws_url,
        "data_dir": str(tmp_path / "data"),
        "key_services": [{"rooms": ["*"], "url": keys.url}],
    }
    command = (sys.executable, "-m", "openegress.cli", "record", "room:shot", "shot.ogg", "--duration", "2s")
    environment = os.environ | {"EGRESS_CONFIG_BODY": yaml.safe_dump(config)}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert has_tone(tones(tmp_path / "shot.ogg"), 440)
    assert holding({"what it said": said}, OF_ANN.encode()) == []
