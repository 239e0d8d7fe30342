"""Follows a page's network activity, as the browser reports it: open connections, failed and unfinished
requests.

The reports are events of CDP's domain Network
(https://chromedevtools.github.io/devtools-protocol/tot/Network/).
"""

import asyncio
from collections import deque
from collections.abc import Callable

from openegress.core.recent import Recent
from openegress.source.web.cdp import Params

KEPT_LINES = 5
"""Limit for failed requests that are kept for error texts, and for unfinished ones that these name."""
MAX_REQUESTS = 2000
"""Limit for concurrent requests whose URLs are kept for errors."""


class PageNetwork:
    """The network activity of one page. `shorten` turns text that may be long and hold secrets into a line
    for errors."""

    def __init__(self, shorten: Callable[[str], str]) -> None:
        self._shorten = shorten
        self._main_request = ""
        self.main_url = ""
        """The URL that the navigation reached after redirects, as the browser spells it."""
        self._requests: Recent[str, str] = Recent(MAX_REQUESTS)
        """URLs of unfinished requests, by request id."""
        self._is_forgotten = False
        self._connections: set[str] = set()
        """Request ids of open WebSockets and event streams."""
        self._failed: deque[str] = deque(maxlen=KEPT_LINES)
        self.status: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """The HTTP status of the page's own request, with its text."""

    @property
    def has_navigated(self) -> bool:
        """Whether the page has left about:blank."""
        return bool(self._main_request)

    @property
    def is_connected(self) -> bool:
        """Whether the page has an open WebSocket or event stream, over which something may still arrive."""
        return bool(self._connections)

    def is_main(self, loader_id: str) -> bool:
        """Whether the loader is that of the page's main document."""
        return loader_id == self._main_request

    def forget_requests(self) -> None:
        """Forgets all requests, and records no new ones."""
        self._is_forgotten = True
        self._requests.clear()
        self._connections.clear()

    def forget_connections(self) -> None:
        """Forgets the connections of the previous document."""
        self._connections.clear()

    def failed(self) -> list[str]:
        """The most recent failed requests."""
        return list(self._failed)

    def unfinished(self) -> list[str]:
        """The oldest unfinished requests."""
        return [self._shorten(url) for url in list(self._requests.values())[:KEPT_LINES]]

    def take(self, method: str, params: Params) -> None:
        """Handles an event of the domain Network."""
        if self._is_forgotten:
            return
        match method:
            case "Network.requestWillBeSent":
                self._requested(params)
            case "Network.responseReceived":
                response = params["response"]
                if params["type"] == "EventSource" and response["status"] < 400:
                    self._connections.add(params["requestId"])
                if params["requestId"] == self._main_request:
                    self._answered(response["status"], response["statusText"])
                elif response["status"] >= 400:
                    self._failed.append(self._shorten(f"{response['url']} (HTTP {response['status']})"))
            case "Network.responseReceivedExtraInfo":
                # A page that asks for a password is not received until someone has typed it.
                if params["requestId"] == self._main_request and params["statusCode"] in (401, 407):
                    self._answered(params["statusCode"], "")
            case "Network.webSocketHandshakeResponseReceived":
                self._connections.add(params["requestId"])
            case "Network.webSocketClosed":
                self._connections.discard(params["requestId"])
            case "Network.loadingFinished":
                self._requests.pop(params["requestId"], None)
                self._connections.discard(params["requestId"])
            case "Network.loadingFailed":
                self._connections.discard(params["requestId"])
                url = self._requests.pop(params["requestId"], "")
                if url and not params.get("canceled"):
                    why = params.get("blockedReason") or params["errorText"]
                    self._failed.append(self._shorten(f"{url} ({why})"))

    def _requested(self, params: Params) -> None:
        self._requests[params["requestId"]] = params["request"]["url"]
        if params["type"] == "Document" and params["requestId"] == params["loaderId"]:
            self._main_request = self._main_request or params["requestId"]
            if params["requestId"] == self._main_request:
                self.main_url = params["request"]["url"]

    def _answered(self, status: int, text: str) -> None:
        if not self.status.done():
            self.status.set_result((status, text))
