"""The ports beside the API: health and metrics, with upstream's names in the configuration."""

from typing import Any

from aiohttp import web

from openegress.api import connections
from openegress.api.health import Health, health_app, upstream_status
from openegress.app.node import Node
from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError, Fault
from openegress.worker.metrics import CONTENT_TYPE


class Ports:
    """Opens what the settings ask for; 0 opens none. Without a node there are no metrics."""

    def __init__(self, settings: Settings, node: Node | None, health: Health) -> None:
        self._settings = settings
        self._node = node
        self._health = health
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Raises EgressError naming the port that is not available."""
        if self._settings.health_port:
            await self._open(
                "health_port", health_app(self._health, self._status), self._settings.health_port
            )
        if self._settings.prometheus_port and self._node is not None:
            await self._open("prometheus_port", metrics_app(self._node), self._settings.prometheus_port)

    def _status(self) -> dict[str, Any]:
        if self._node is None:
            return {}
        return upstream_status(self._node.machine.free_cores(), self._node.infos())

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _open(self, name: str, app: web.Application, port: int) -> None:
        runner = connections.Runner(app)
        await runner.setup()
        self._runners.append(runner)
        try:
            await connections.listen(runner, self._settings.host, port)
        except OSError as error:
            raise EgressError(
                Code.UNAVAILABLE,
                f"{name}: cannot listen on {port}: {error.strerror or error}; choose another",
                fault=Fault.SERVICE,
            ) from None


def metrics_app(node: Node) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=node.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/{path:.*}", metrics)
    return app
