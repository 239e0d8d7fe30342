"""The dashboard's feed of server-sent events (WHATWG HTML 9.2): a snapshot, then changes."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from openegress.api import connections
from openegress.api.auth import Unauthorized, verify
from openegress.api.dashboard_state import DashboardState
from openegress.core.errors import EgressError
from openegress.core.info import is_terminal
from openegress.core.tasks import cancelled

EVENTS_PATH = "/dashboard/api/events"

KEEP_ALIVE_S = 15.0
"""Interval of messages on an idle feed: below the idle limits of usual proxies (30 to 60 s)."""
KEEP_ALIVE = b": keep-alive\n\n"


class Dashboard:
    """Serves EVENTS_PATH to callers whose token has roomRecord, in a header or as ?access_token."""

    def __init__(self, board: DashboardState, keys: Mapping[str, str]) -> None:
        self._board = board
        self._keys = keys

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Sends `event: snapshot` with {"egresses": [entry ...], "samples": {egress id: [progress ...]},
        "node": {...}}, then `event: egress` with one entry for each change: {"egress_id", "progress": {...} |
        null, "info": EgressInfo, "moments": [{"at_ms", "text", "mood"} ...], "thumbnail": data URL | null}.
        Each of the last three is present only if it has changed."""
        try:
            caller = verify(
                request.headers.get("Authorization"), request.query.get("access_token"), self._keys
            )
            caller.require_record()
            connections.trust(request)
        except Unauthorized as error:
            return web.Response(status=401, text=str(error))
        except EgressError as error:
            return web.Response(status=error.code.http_status, text=error.message)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                # nginx buffers what it proxies unless told not to.
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        try:
            await self._feed(response)
        except ConnectionResetError:
            pass  # the watcher is gone, which is the usual end
        return response

    async def _feed(self, response: web.StreamResponse) -> None:
        changes = self._board.watch()
        change = asyncio.ensure_future(anext(changes, None))
        try:
            sent = self._board.entries()
            await response.write(_event("snapshot", self._board.snapshot()))
            while True:
                done, _ = await asyncio.wait({change}, timeout=KEEP_ALIVE_S)
                if not done:
                    await response.write(KEEP_ALIVE)
                    continue
                entry = change.result()
                if entry is None:
                    return
                change = asyncio.ensure_future(anext(changes, None))
                egress_id = entry.info.egress_id
                await response.write(_event("egress", entry.to_dict(sent.pop(egress_id, None))))
                if not is_terminal(entry.info):  # an ended entry rarely changes, and is then sent whole
                    sent[egress_id] = entry
        finally:
            await cancelled(change)
            await changes.aclose()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
