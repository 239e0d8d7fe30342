"""One recording without a server: a worker of its own, a bus in memory, and private records."""

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from livekit.protocol.egress import EgressInfo, StopEgressRequest

from openegress.app.folders import make_folders
from openegress.app.node import Node
from openegress.app.worker_config import path_leases, room_service
from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError
from openegress.core.events import Progress
from openegress.core.info import is_terminal
from openegress.core.shown_url import redact_endpoint
from openegress.proto.egress_rpc_pb2 import GetEgressRequest, StartEgressRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import ONCE, EgressHandler, EgressInternal, IOInfo
from openegress.store.leases import MemoryLeases
from openegress.worker.config import WorkerLeases

_TICK_S = 0.5
_LAST_WORD_S = 5.0
"""How long to wait for the last state of an egress that has ended by itself."""


class OneShot:
    """async with OneShot(settings) as one: await one.start(request); async for ... in one.progress()."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bus = MemoryBus()
        self._client = RPCClient(self._bus)
        self._records = RPCServer(self._bus)
        self._node: Node | None = None
        self._over = asyncio.Event()
        self._paths = path_leases(settings, MemoryLeases(), is_guest=True)
        self.info = EgressInfo()

    async def __aenter__(self) -> "OneShot":
        make_folders(self._settings)
        await self._records.register(IOInfo.CREATE_EGRESS, self._take)
        await self._records.register(IOInfo.UPDATE_EGRESS, self._take)
        await self._records.register(IOInfo.GET_EGRESS, self._find)
        self._node = Node(
            self._settings,
            self._bus,
            WorkerLeases(MemoryLeases(), self._paths),
            warm=False,
            shares_folders=True,
        )
        await self._node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._node is not None:
            await self._node.close()
        await self._paths.close()
        await self._records.close()
        await self._client.close()
        await self._bus.close()

    async def start(self, request: StartEgressRequest) -> None:
        """Raises EgressError when the request is refused, or its room does not exist: joining would create
        the room, and record it for ever with nobody in it."""
        if request.room_name:
            request.room_id = await self._room_id(request.room_name)
        self.info = await self._client.call(EgressInternal.START_EGRESS, request, retry=ONCE)

    async def stop(self) -> None:
        """Does nothing when it has ended. Raises EgressError when it cannot be stopped."""
        request = StopEgressRequest(egress_id=self.info.egress_id)
        try:
            await self._client.call(EgressHandler.STOP_EGRESS, request, self.info.egress_id)
        except EgressError as refused:
            try:
                async with asyncio.timeout(_LAST_WORD_S):
                    await self._over.wait()
            except TimeoutError:
                raise refused from None

    async def progress(self) -> AsyncIterator[Progress | None]:
        """Every half second until the egress ends; None before it records."""
        while not self._over.is_set():
            job = self._node.supervisor.get(self.info.egress_id) if self._node is not None else None
            yield job.progress if job is not None else None
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._over.wait()
            except TimeoutError:
                continue

    async def _room_id(self, name: str) -> str:
        rooms = room_service(self._settings)
        if rooms is None:
            return ""  # the worker says what is missing
        try:
            room_id = await rooms.find(name)
        finally:
            await rooms.close()
        if room_id is None:
            raise EgressError(
                Code.NOT_FOUND,
                f"requested room does not exist: {name!r} is not on"
                f" {redact_endpoint(self._settings.ws_url)}; check its name, or start once somebody has"
                " joined",
            )
        return room_id

    async def _take(self, info: EgressInfo) -> Empty:
        """The record of this recording. Recordings that are recovered meanwhile are reported to nobody."""
        self.info = info
        if is_terminal(info):
            self._over.set()
        return Empty()

    async def _find(self, request: GetEgressRequest) -> EgressInfo:
        if request.egress_id != self.info.egress_id:
            raise EgressError(Code.NOT_FOUND, "egress not found")
        return self.info
