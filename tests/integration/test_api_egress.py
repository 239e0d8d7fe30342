"""The methods of the Egress API against a real livekit-server: rooms, records, stops, streams, layouts."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from livekit import api as livekit_api
from livekit import rtc
from livekit.protocol.egress import EgressStatus

from openegress.api.rooms import LiveKitServer, RoomService
from openegress.core.errors import Code, EgressError
from openegress.core.events import Active
from testkit.egress_api import API_KEY, EgressApi, egress_api
from testkit.livekit_server import LivekitServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = "demo"
FILE = {"file_outputs": [{"filepath": "x"}]}
STREAM = {"stream_outputs": [{"urls": ["rtmp://h/app/0123456789"]}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit() -> AsyncIterator[LivekitServer]:
    async with LivekitServer() as server:
        await server.room_service().create_room(livekit_api.CreateRoomRequest(name=ROOM, empty_timeout=600))
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def api(livekit: LivekitServer, tmp_path: Path) -> AsyncIterator[EgressApi]:
    async with egress_api(tmp_path, livekit) as running:
        yield running


class Refused(Exception):
    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.code = error["code"]
        self.message = error["msg"]


async def call(api: EgressApi, method: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{api.url}/twirp/livekit.Egress/{method}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=api.headers()) as answer,
    ):
        value: dict[str, Any] = await answer.json()
        if answer.status != 200:
            raise Refused(answer.status, value)
        return value


async def refused(api: EgressApi, method: str, body: dict[str, Any]) -> tuple[int, str, str]:
    with pytest.raises(Refused) as error:
        await call(api, method, body)
    return error.value.status, error.value.code, error.value.message


STARTS: list[tuple[str, dict[str, Any]]] = [
    ("StartRoomCompositeEgress", {"room_name": ROOM, "layout": "grid"} | FILE),
    ("StartRoomCompositeEgress", {"room_name": ROOM, "audio_only": True} | FILE),
    ("StartParticipantEgress", {"room_name": ROOM, "identity": "ann"} | FILE),
    ("StartTrackCompositeEgress", {"room_name": ROOM, "audio_track_id": "A"} | FILE),
    ("StartTrackEgress", {"room_name": ROOM, "track_id": "T", "file": {}}),
    ("StartTrackEgress", {"room_name": ROOM, "track_id": "T", "websocket_url": "ws://h"}),
    ("StartEgress", {"room_name": ROOM, "template": {"layout": "grid"}, "outputs": [{"file": {}}]}),
    (
        "StartEgress",
        {"room_name": ROOM, "media": {"audio": {"capture_all": True}}, "outputs": [{"file": {}}]},
    ),
]


@pytest.mark.parametrize(("method", "body"), STARTS)
async def test_every_start_in_a_room(
    api: EgressApi, livekit: LivekitServer, method: str, body: dict[str, Any]
) -> None:
    info = await call(api, method, body)
    rooms = await livekit.room_service().list_rooms(livekit_api.ListRoomsRequest(names=[ROOM]))
    assert (info["room_name"], info["room_id"]) == (ROOM, rooms.rooms[0].sid)
    assert info["status"] == "EGRESS_STARTING"
    assert await refused(api, method, body | {"room_name": "nowhere"}) == (
        404,
        "not_found",
        "requested room does not exist",
    )


async def test_web_pages_need_no_room(api: EgressApi) -> None:
    for method, body in (
        ("StartWebEgress", {"url": "http://e.com"} | FILE),
        ("StartEgress", {"web": {"url": "http://e.com"}, "outputs": [{"file": {}}]}),
    ):
        info = await call(api, method, body)
        assert (info["room_name"], info["room_id"]) == ("", "")


@pytest.mark.parametrize(
    ("method", "body", "answer"),
    [
        ("StartEgress", {}, (400, "invalid_argument", "request has missing or invalid field: source")),
        (
            "StartRoomCompositeEgress",
            FILE,
            (400, "invalid_argument", "request has missing or invalid field: room_name"),
        ),
        (
            "StartWebEgress",
            FILE | {"url": "ftp://x"},
            (400, "invalid_argument", "request has missing or invalid field: web url"),
        ),
        (
            "StartWebEgress",
            FILE | {"url": "http://e.com", "webhooks": [{"url": "ftp://x", "signing_key": API_KEY}]},
            (
                400,
                "invalid_argument",
                'webhook url "ftp://x" is not an http or https URL with a host',
            ),
        ),
        (
            "StartWebEgress",
            FILE | {"url": "http://e.com", "webhooks": [{"url": "http://x", "signing_key": "APIno"}]},
            (
                400,
                "invalid_argument",
                "no secret for provided signing key {A...o}: name an API key of this server",
            ),
        ),
        (
            "StartWebEgress",
            FILE | {"url": "http://e.com", "webhooks": [{"url": "http://x"}]},
            (
                400,
                "invalid_argument",
                "webhook without signing_key: this server has no key of its own to sign with",
            ),
        ),
    ],
)
async def test_starts_refused(
    api: EgressApi, method: str, body: dict[str, Any], answer: tuple[int, str, str]
) -> None:
    assert await refused(api, method, body) == answer


async def test_secrets_are_not_answered(api: EgressApi) -> None:
    storage = {"s3": {"bucket": "b", "access_key": "SECRET", "secret": "SECRET"}}
    outputs = [{"file": {}, "storage": storage}, {"stream": {"urls": ["rtmp://h/app/xxxSECRETxxx"]}}]
    body = {"room_name": ROOM, "template": {}, "outputs": outputs, "storage": storage}
    info = await call(api, "StartEgress", body)
    listed = await call(api, "ListEgress", {})
    assert "SECRET" not in json.dumps([info, listed])
    assert info["stream_results"][0]["url"] == "rtmp://h/app/{xxx...xxx}"


# --- list


async def test_list(api: EgressApi) -> None:
    web = await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE)
    room = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM} | FILE)
    ended = await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE)
    await api.worker.tell(ended["egress_id"], Active(1))
    await api.worker.end(ended["egress_id"])

    async def ids(**query: Any) -> set[str]:
        answer = await call(api, "ListEgress", query)
        return {item["egress_id"] for item in answer["items"]}

    assert await ids() == {web["egress_id"], room["egress_id"], ended["egress_id"]}
    assert await ids(active=True) == {web["egress_id"], room["egress_id"]}
    assert await ids(room_name=ROOM) == {room["egress_id"]}
    assert await ids(room_name="nowhere") == set()
    assert await ids(egress_id=ended["egress_id"], active=True, room_name="x") == {ended["egress_id"]}
    assert await refused(api, "ListEgress", {"egress_id": "EG_none"}) == (
        404,
        "not_found",
        "egress does not exist",
    )


# --- stop


async def test_stop(api: EgressApi) -> None:
    info = await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE)
    egress_id = info["egress_id"]
    await api.worker.tell(egress_id, Active(1))
    for _ in range(2):
        assert (await call(api, "StopEgress", {"egress_id": egress_id}))["status"] == "EGRESS_ENDING"
    await api.worker.end(egress_id)
    for method, verb in (("StopEgress", "stopped"), ("UpdateStream", "updated"), ("UpdateLayout", "updated")):
        assert await refused(api, method, {"egress_id": egress_id}) == (
            412,
            "failed_precondition",
            f"egress with status EGRESS_COMPLETE cannot be {verb}",
        )


async def test_stop_before_the_start_aborts(api: EgressApi) -> None:
    info = await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE)
    stopped = await call(api, "StopEgress", {"egress_id": info["egress_id"]})
    assert (stopped["status"], stopped["error_code"]) == ("EGRESS_ABORTED", 412)
    assert stopped["error"] == "Stop called before pipeline could start"


@pytest.mark.parametrize("egress_id", ["", "EG_none"])
async def test_unknown_egress(api: EgressApi, egress_id: str) -> None:
    for method in ("StopEgress", "UpdateStream", "UpdateLayout"):
        assert await refused(api, method, {"egress_id": egress_id}) == (
            404,
            "not_found",
            "egress does not exist",
        )


async def test_a_worker_that_does_not_answer(api: EgressApi) -> None:
    api.worker.silent = True
    info = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM} | STREAM)
    await api.worker.tell(info["egress_id"], Active(1))
    status, code, message = await refused(api, "StopEgress", {"egress_id": info["egress_id"]})
    assert (status, code, message) == (408, "deadline_exceeded", "request timed out")
    update = {"egress_id": info["egress_id"], "add_output_urls": ["rtmp://h/app/b"]}
    assert (await refused(api, "UpdateStream", update))[1] == "unavailable"


async def test_a_stop_that_no_worker_took_reaches_the_one_that_goes_on(api: EgressApi) -> None:
    """It was asked for while the egress had no worker."""
    api.worker.silent = True
    info = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM} | STREAM)
    egress_id = info["egress_id"]
    await api.worker.tell(egress_id, Active(1))
    assert (await refused(api, "StopEgress", {"egress_id": egress_id}))[1] == "deadline_exceeded"
    await api.worker.answer(egress_id)
    infos = api.worker.infos
    async with asyncio.timeout(10):
        while infos[egress_id].status != EgressStatus.EGRESS_ENDING:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


async def test_a_layout_is_refused_while_nobody_records(api: EgressApi) -> None:
    """The room would take it for the recorder that has just died, whose successor would not see it."""
    api.worker.silent = True
    info = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM, "layout": "grid"} | FILE)
    await api.worker.tell(info["egress_id"], Active(1))
    status, code, message = await refused(
        api, "UpdateLayout", {"egress_id": info["egress_id"], "layout": "speaker"}
    )
    assert (status, code) == (503, "unavailable")
    assert message.startswith("no worker has this egress now")


# --- streams


async def test_update_stream(api: EgressApi) -> None:
    info = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM} | STREAM)
    egress_id = info["egress_id"]
    added = await call(
        api, "UpdateStream", {"egress_id": egress_id, "add_output_urls": ["rtmp://h/app/abcdefghi"]}
    )
    urls = [stream["url"] for stream in added["stream_results"]]
    assert urls == ["rtmp://h/app/{012...789}", "rtmp://h/app/{abc...ghi}"]
    assert await refused(
        api, "UpdateStream", {"egress_id": egress_id, "remove_output_urls": ["rtmp://h/app/zzzzzzzzz"]}
    ) == (404, "not_found", "stream rtmp://h/app/{zzz...zzz} not found")
    web = await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE)
    assert await refused(
        api, "UpdateStream", {"egress_id": web["egress_id"], "add_output_urls": ["rtmp://h/app/b"]}
    ) == (400, "invalid_argument", "UpdateStream called on non-streaming egress")


# --- layouts


async def test_update_layout_reaches_the_recorder(api: EgressApi, livekit: LivekitServer) -> None:
    info = await call(api, "StartRoomCompositeEgress", {"room_name": ROOM, "layout": "grid"} | FILE)
    egress_id = info["egress_id"]
    assert await refused(api, "UpdateLayout", {"egress_id": egress_id, "layout": "speaker"}) == (
        404,
        "not_found",
        "participant does not exist",
    )
    recorder = rtc.Room()
    metadata: asyncio.Queue[str] = asyncio.Queue()
    recorder.on("participant_metadata_changed", lambda who, old, new: metadata.put_nowait(new))
    await recorder.connect(livekit.ws_url, livekit.recorder_token(ROOM, egress_id))
    try:
        changed = await call(api, "UpdateLayout", {"egress_id": egress_id, "layout": "speaker-light"})
        assert changed["room_composite"]["layout"] == "speaker-light"
        async with asyncio.timeout(10):
            assert json.loads(await metadata.get()) == {"layout": "speaker-light"}
    finally:
        await recorder.disconnect()
    listed = await call(api, "ListEgress", {"egress_id": egress_id})
    assert listed["items"][0]["room_composite"]["layout"] == "speaker-light"


@pytest.mark.parametrize(
    ("method", "body", "what"),
    [
        ("StartWebEgress", {"url": "http://e.com"} | FILE, "a web page"),
        ("StartEgress", {"web": {"url": "http://e.com"}, "outputs": [{"file": {}}]}, "a web page"),
        (
            "StartEgress",
            {"room_name": ROOM, "media": {"audio": {"capture_all": True}}, "outputs": [{"file": {}}]},
            "a choice of media",
        ),
        (
            "StartEgress",
            {"room_name": ROOM, "template": {"audio_only": True}, "outputs": [{"file": {}}]},
            "a recording of sound alone",
        ),
        ("StartTrackEgress", {"room_name": ROOM, "track_id": "T", "file": {}}, "a track"),
        (
            "StartRoomCompositeEgress",
            {"room_name": ROOM, "audio_only": True} | FILE,
            "a recording of sound alone",
        ),
    ],
)
async def test_egresses_without_a_layout(
    api: EgressApi, method: str, body: dict[str, Any], what: str
) -> None:
    info = await call(api, method, body)
    answer = await call(api, "UpdateLayout", {"egress_id": info["egress_id"], "layout": "grid"})
    assert answer["egress_id"] == info["egress_id"]
    assert answer["details"] == f"the layout has no effect: this is {what}, and only room composites have one"


async def test_a_template_whose_request_names_no_layout(api: EgressApi, livekit: LivekitServer) -> None:
    body = {"room_name": ROOM, "template": {}, "outputs": [{"file": {"filepath": "no-layout"}}]}
    info = await call(api, "StartEgress", body)
    assert (info["egress"]["template"].get("layout", ""), info.get("details", "")) == ("", "")
    recorder = rtc.Room()
    await recorder.connect(livekit.ws_url, livekit.recorder_token(ROOM, info["egress_id"]))
    try:
        for layout, stored in (("?text=Part 1", "?text=Part%201"), ("speaker", "speaker")):
            changed = await call(api, "UpdateLayout", {"egress_id": info["egress_id"], "layout": layout})
            assert (changed["egress"]["template"]["layout"], changed.get("details", "")) == (stored, "")
    finally:
        await recorder.disconnect()


# --- LiveKit away


async def test_without_livekit_only_pages(tmp_path: Path) -> None:
    async with egress_api(tmp_path) as api:
        status, code, message = await refused(api, "StartRoomCompositeEgress", {"room_name": ROOM} | FILE)
        assert (status, code) == (412, "failed_precondition")
        assert "set LIVEKIT_URL" in message
        assert (await call(api, "StartWebEgress", {"url": "http://e.com"} | FILE))["egress_id"]


async def test_livekit_that_cannot_be_asked(livekit: LivekitServer) -> None:
    closed = f"ws://127.0.0.1:{free_port()}"
    cases = [
        (LiveKitServer(closed, "k", "s" * 32), Code.UNAVAILABLE, closed.replace("ws", "http")),
        (LiveKitServer("ws://nowhere.invalid", "k", "s" * 32), Code.UNAVAILABLE, "http://nowhere.invalid"),
        (LiveKitServer(livekit.ws_url, livekit.api_key, "0" * 32), Code.INTERNAL, "LIVEKIT_API_SECRET"),
        (LiveKitServer(livekit.ws_url, "APIother", "0" * 32), Code.INTERNAL, "invalid API key"),
    ]
    for server, code, text in cases:
        rooms = RoomService(server)
        try:
            with pytest.raises(EgressError) as error:
                await rooms.find(ROOM)
        finally:
            await rooms.close()
        assert error.value.code is code
        assert text in error.value.message
        assert "eyJ" not in error.value.message, "a token that is refused"


async def test_livekit_that_is_silent() -> None:
    stopped = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stopped.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rooms = RoomService(LiveKitServer(f"ws://127.0.0.1:{port}", "k", "s" * 32), timeout_s=0.2)
    try:
        with pytest.raises(EgressError, match=r"no answer within 0\.2 s"):
            await rooms.find(ROOM)
    finally:
        await rooms.close()
        stopped.set()
        server.close()
        await server.wait_closed()
