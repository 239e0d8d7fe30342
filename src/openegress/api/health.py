"""Serves health checks for orchestrators (alive, ready), and upstream's status page for its dashboards."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from aiohttp import web
from google.protobuf.json_format import MessageToDict
from livekit.protocol.egress import EgressInfo

from openegress.core.public import public
from openegress.request.redact import redacted, shown

_log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""Returns None if all is well, else what is wrong and what to do. The text has no secrets."""

CHECK_TIMEOUT_S = 2.0
"""Time-out of a check. It is shorter than the time-outs of orchestrators, so that they learn the reason."""


class Health:
    """The checks of a service. A failed check of `alive` fails /healthz (restart the service) and /readyz;
    one of `ready` fails only /readyz (send no traffic)."""

    def __init__(
        self, alive: Mapping[str, Check] | None = None, ready: Mapping[str, Check] | None = None
    ) -> None:
        self._alive = dict(alive or {})
        self._ready = dict(ready or {})

    async def healthz(self, request: web.Request) -> web.Response:
        return _answer(await _run(self._alive))

    async def readyz(self, request: web.Request) -> web.Response:
        return _answer(await _run(self._alive | self._ready))


async def _run(checks: Mapping[str, Check]) -> dict[str, str | None]:
    found = await asyncio.gather(*(_one(check) for check in checks.values()))
    return dict(zip(checks, found, strict=True))


async def _one(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:
        # The error's text goes only to the log, as it may hold secrets.
        _log.exception("a health check failed")
        return f"the check failed ({type(error).__name__}); the log has the details"


def _answer(found: Mapping[str, str | None]) -> web.Response:
    healthy = not any(found.values())
    body = {
        "status": "ok" if healthy else "failing",
        "checks": {name: why or "ok" for name, why in found.items()},
    }
    return web.json_response(body, status=200 if healthy else 503, headers={"Cache-Control": "no-store"})


# --- upstream's health port


def upstream_status(cpu_load: float, egresses: Sequence[EgressInfo]) -> dict[str, Any]:
    """The JSON of livekit/egress' health port: the load, and each egress' request by its id, redacted."""
    status: dict[str, Any] = {"CpuLoad": cpu_load}
    for info in egresses:
        kind = info.WhichOneof("request")
        status[info.egress_id] = public(MessageToDict(redacted(shown(getattr(info, kind))))) if kind else {}
    return status


def health_app(health: Health, status: Callable[[], Mapping[str, Any]]) -> web.Application:
    """The application for `health_port`: /healthz, /readyz, and upstream's JSON on any other path."""

    async def any_path(request: web.Request) -> web.Response:
        return web.json_response(status(), dumps=json.dumps)

    app = web.Application()
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/{path:.*}", any_path)
    return app
