"""A running Egress API with a worker that records nothing: what clients see, without media.

The worker plans requests and turns events into EgressInfo with the project's own core, and says over the
bus what a real one would.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
from livekit.protocol.egress import EgressInfo, StopEgressRequest, UpdateLayoutRequest, UpdateStreamRequest

from openegress.api.dashboard_state import DashboardState
from openegress.api.egress import ApiPolicy, EgressService
from openegress.api.health import Health
from openegress.api.pages import Pages
from openegress.api.rooms import LiveKitServer, RoomService
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core import info as infos
from openegress.core.errors import Code, EgressError
from openegress.core.events import Active, AnyEvent, Ended, Ending, EndReason, StreamAdded
from openegress.core.plan import Plan, StreamOutput
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.tokens import recorder_token
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal, IOInfo
from openegress.request import stream_urls
from openegress.request.initial_info import initial
from openegress.request.validate import Context, plan_of
from openegress.store.ioinfo import IOInfoService
from openegress.store.sqlite import SqliteStore
from testkit.livekit_server import LivekitServer

API_KEY = "APIkeyOfTests"


class PaperWorker:
    """Takes every request that can be planned. `prompt`: an egress is active as soon as it is created."""

    def __init__(self, server: RPCServer, client: RPCClient, livekit_url: str, prompt: bool) -> None:
        self.plans: dict[str, Plan] = {}
        self.infos: dict[str, EgressInfo] = {}
        self.refusal: EgressError | None = None
        self.pause_s = 0.0
        self.silent = False
        self.on_start: Callable[[EgressInfo], Awaitable[None]] | None = None
        """Does a recorder's part that a test needs, before the start is answered."""
        self._server = server
        self._client = client
        self._livekit_url = livekit_url
        self._prompt = prompt

    async def open(self) -> None:
        self._starts = await self._server.register(
            EgressInternal.START_EGRESS, self._start, affinity=lambda _: self.refusal or 1.0
        )

    async def leave(self) -> None:
        """Takes no more starts."""
        await self._starts.close()

    async def tell(self, egress_id: str, event: AnyEvent) -> EgressInfo:
        """An event of an egress."""
        info = infos.apply(self.infos[egress_id], event, time.time_ns())
        self.infos[egress_id] = info
        await self._client.call(IOInfo.UPDATE_EGRESS, info)
        return info

    async def end(self, egress_id: str) -> EgressInfo:
        return await self.tell(egress_id, Ended(time.time_ns(), EndReason.API))

    async def _start(self, request: StartEgressRequest) -> EgressInfo:
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        context = Context(
            now_ns=time.time_ns(),
            storage=StoragePlan(backend=LocalStorage(root="/out")),
            ws_url=self._livekit_url or "ws://127.0.0.1:1",
            template_base="http://127.0.0.1:1/",
            make_token=lambda egress_id, room: recorder_token("k", secrets.token_hex(16), room, egress_id),
        )
        plan = plan_of(request, context)
        info = initial(request, plan, time.time_ns())
        egress_id = plan.egress_id
        self.plans[egress_id], self.infos[egress_id] = plan, info
        await self._client.call(IOInfo.CREATE_EGRESS, info)
        if not self.silent:
            await self.answer(egress_id)
        if self.on_start is not None:
            await self.on_start(info)
        if self._prompt:
            await self.tell(egress_id, Active(time.time_ns()))
        return info

    async def answer(self, egress_id: str) -> None:
        """From now on, answers what an egress is asked for."""
        await self._server.register(EgressHandler.STOP_EGRESS, self._stop, egress_id)
        await self._server.register(EgressHandler.UPDATE_STREAM, self._update_stream, egress_id)
        await self._server.register(EgressHandler.ORDER, self._apply_order, egress_id)

    async def _apply_order(self, request: UpdateLayoutRequest) -> EgressInfo:
        return self.infos[request.egress_id]

    async def _stop(self, request: StopEgressRequest) -> EgressInfo:
        info = await self.tell(request.egress_id, Ending(EndReason.API))
        if self._prompt:
            await self.end(request.egress_id)
        return info

    async def _update_stream(self, request: UpdateStreamRequest) -> EgressInfo:
        outputs = self.plans[request.egress_id].outputs
        output = next((each for each in outputs if isinstance(each, StreamOutput)), None)
        if output is None:
            raise EgressError(Code.INVALID_ARGUMENT, "UpdateStream called on non-streaming egress")
        info = self.infos[request.egress_id]
        for url in request.add_output_urls:
            target = stream_urls.target(url, stream_urls.StreamKind(output.protocol))
            added = StreamAdded(outputs.index(output), len(info.stream_results), target.redacted, target.id)
            info = infos.apply(info, added, time.time_ns())
        for url in request.remove_output_urls:
            if not any(stream.url == stream_urls.redact(url) for stream in info.stream_results):
                raise EgressError(Code.NOT_FOUND, f"stream {stream_urls.redact(url)} not found")
        self.infos[request.egress_id] = info
        await self._client.call(IOInfo.UPDATE_EGRESS, info)
        return info


class EgressApi:
    """The running parts, and tokens for them."""

    def __init__(
        self, server: ApiServer, worker: PaperWorker, board: DashboardState, api_secret: str
    ) -> None:
        self.server = server
        self.worker = worker
        self.board = board
        self.api_key = API_KEY
        self.api_secret = api_secret

    @property
    def url(self) -> str:
        return self.server.url

    def token(self, *, secret: str = "", algorithm: str = "HS256", **claims: Any) -> str:
        """A token that may record; claims given replace or (None) drop its own."""
        own: dict[str, Any] = {
            "iss": self.api_key,
            "exp": int(time.time()) + 600,
            "video": {"roomRecord": True},
        }
        kept = {name: value for name, value in (own | claims).items() if value is not None}
        return jwt.encode(kept, secret or self.api_secret, algorithm=algorithm)

    def headers(self, content_type: str = "application/json") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}", "Content-Type": content_type}


@asynccontextmanager
async def egress_api(
    folder: Path,
    livekit: LivekitServer | None = None,
    *,
    prompt: bool = False,
    health: Health | None = None,
    pages: Pages | None = None,
) -> AsyncIterator[EgressApi]:
    """An API on a free loopback port, records in `folder`."""
    async with AsyncExitStack() as stack:
        bus = MemoryBus()
        stack.push_async_callback(bus.close)
        store = SqliteStore(folder / "egress.db")
        await store.open()
        stack.push_async_callback(store.close)
        rpc_server, client = RPCServer(bus), RPCClient(bus)
        stack.push_async_callback(client.close)
        stack.push_async_callback(rpc_server.close)
        records = IOInfoService(store)
        await records.register(rpc_server)
        worker = PaperWorker(rpc_server, client, livekit.ws_url if livekit else "", prompt)
        await worker.open()
        rooms = None
        if livekit is not None:
            rooms = RoomService(LiveKitServer(livekit.ws_url, livekit.api_key, livekit.api_secret))
            stack.push_async_callback(rooms.close)
        board = DashboardState()
        records.listen(board.update)
        secret = secrets.token_hex(32)
        service = EgressService(client, records, rooms, ApiPolicy(signing_keys={API_KEY}))
        stack.push_async_callback(service.close)
        parts = Parts({API_KEY: secret}, service, board, health or Health(), pages or Pages())
        server = ApiServer(Listen(port=0), parts)
        await server.start()
        stack.push_async_callback(server.close)
        yield EgressApi(server, worker, board, secret)
