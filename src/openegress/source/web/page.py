"""Drives one page over CDP: opens it, reads its console, and reports how it fails."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from openegress.source.room_orders import OwnParticipantChange
from openegress.source.web.cdp import DevToolsConnection, Disconnected, Params
from openegress.source.web.page_network import KEPT_LINES, PageNetwork
from openegress.source.web.page_playout import PagePlayout
from openegress.source.web.page_room import PageRoom

LINE_LENGTH = 300
READ_LENGTH = 4096
"""Limit for the part of a page's text, which may be megabytes, that is searched for its secrets."""
START_SIGNAL = "START_RECORDING"
END_SIGNAL = "END_RECORDING"


@dataclass(frozen=True, slots=True)
class Console:
    """A message of the page: a console call, an uncaught exception, or the browser's own message about it."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class StartSignal:
    """The page logged START_RECORDING."""


@dataclass(frozen=True, slots=True)
class EndSignal:
    """The page logged END_RECORDING."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The renderer has crashed."""


@dataclass(frozen=True, slots=True)
class OwnParticipantUpdate:
    """The server of the page's room changed the recorder's participant."""

    what: OwnParticipantChange


PageEvent = Console | StartSignal | EndSignal | Crashed | OwnParticipantUpdate


class PageError(Exception):
    """The page could not be loaded; the text gives the reason."""


_NO_PRINT = "window.print = () => {}"
"""Disables printing: nobody would close the preview, which would cover the page to the end."""


class Page:
    """The only tab of a browser. `redact` hides the secrets of its URL in everything it reports."""

    def __init__(self, connection: DevToolsConnection, target_id: str, session_id: str) -> None:
        self._connection = connection
        self._target_id = target_id
        self._session_id = session_id
        self._listener: Callable[[PageEvent], None] = lambda _: None
        self._redact: Callable[[str], str] = lambda text: text
        self.network = PageNetwork(self._shorten)
        self._room: PageRoom | None = None
        self.playout = PagePlayout(connection, target_id, session_id)
        self._console_errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._loaded = asyncio.Event()
        self._painted = asyncio.Event()
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def attach(cls, connection: DevToolsConnection, insecure: bool) -> "Page":
        """Attaches to the browser's first tab, and makes the page believe that it is visible."""
        targets = await connection.command("Target.getTargets")
        target_id = next(t["targetId"] for t in targets["targetInfos"] if t["type"] == "page")
        attached = await connection.command("Target.attachToTarget", targetId=target_id, flatten=True)
        page = cls(connection, target_id, attached["sessionId"])
        connection.listen("", page._browser_event)
        connection.listen(page._session_id, page._event)
        send, session = connection.send, page._session_id
        commands = [
            send("Target.setDiscoverTargets", discover=True),
            send("Browser.setDownloadBehavior", behavior="deny"),
            send("Page.enable", session),
            send("Page.setLifecycleEventsEnabled", session, enabled=True),
            send("Inspector.enable", session),
            send("Log.enable", session),
            send("Runtime.enable", session),
            send("Emulation.setFocusEmulationEnabled", session, enabled=True),
            send("Page.addScriptToEvaluateOnNewDocument", session, source=_NO_PRINT),
        ]
        if insecure:
            commands.append(send("Security.setIgnoreCertificateErrors", session, ignore=True))
        await asyncio.gather(*commands)
        return page

    def listen(self, listener: Callable[[PageEvent], None], redact: Callable[[str], str]) -> None:
        """Sets the listener, which is called in the event loop, in order, and never blocks."""
        self._listener = listener
        self._redact = redact

    def watch_room(self, room: PageRoom) -> None:
        """Reads what the server says in the page's room. Call it before navigate()."""
        self._room = room

    async def navigate(self, url: str) -> None:
        """Opens a URL, and returns when the page has loaded. Raises PageError, or Disconnected if the browser
        has ended. The caller sets the time-out."""
        command, session = self._connection.command, self._session_id
        # Bodies are never requested, so the browser need not keep them.
        await command("Network.enable", session, maxTotalBufferSize=0, maxResourceBufferSize=0)
        waits: list[asyncio.Future[Any]] = [
            self._connection.send("Page.navigate", session, url=url),
            self.network.status,
            asyncio.ensure_future(self._loaded.wait()),
        ]
        answer, status, loaded = waits
        try:
            pending: set[asyncio.Future[Any]] = set(waits)
            while not loaded.done():
                _, pending = await asyncio.wait(
                    {*pending, self.crashed, self._connection.closed}, return_when=asyncio.FIRST_COMPLETED
                )
                if self.crashed.done():
                    raise PageError("the page crashed its renderer while loading")
                if self._connection.closed.done():
                    raise Disconnected("the browser is gone")
                pending -= {self.crashed, self._connection.closed}
                if status.done():
                    self._judge_status(url)
                if answer.done():
                    self._judge_answer(url, answer.result())
            if status.done():
                self._judge_status(url)
        finally:
            loaded.cancel()

    async def painted(self, timeout_s: float) -> None:
        """Waits for the page's first paint, but not for long: an empty page has none."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._painted.wait()
        except TimeoutError:
            pass

    async def error_text(self) -> str:
        """The text in a `div.error` of the page, empty if there is none."""
        answer = await self._connection.command(
            "Runtime.evaluate",
            self._session_id,
            expression="document.querySelector('div.error')?.textContent ?? ''",
            returnByValue=True,
        )
        return self._shorten(str(answer.get("result", {}).get("value", "")).strip())

    async def forget_requests(self) -> None:
        """Stops watching the network, unless the room needs it: each packet of a video would be an event."""
        self.network.forget_requests()
        if self._room is None:
            await self._connection.command("Network.disable", self._session_id)

    def troubles(self) -> str:
        """The last console errors, and failed and unfinished requests, for an error text; empty if there are
        none."""
        parts = []
        if self._console_errors:
            parts.append("console errors: " + " | ".join(self._console_errors))
        if failed := self.network.failed():
            parts.append("failed requests: " + " | ".join(failed))
        if not self._loaded.is_set() and (unfinished := self.network.unfinished()):
            parts.append("unfinished requests: " + " | ".join(unfinished))
        return "; ".join(parts)

    def _judge_answer(self, url: str, answer: Params) -> None:
        if answer.get("isDownload"):
            raise PageError(f"{self._redact(url)} is a download, not a page")
        if error := answer.get("errorText"):
            raise PageError(f"{self._redact(url)} could not be loaded: {_explain(str(error))}")

    def _judge_status(self, url: str) -> None:
        code, text = self.network.status.result()
        if code >= 400:
            raise PageError(f"{self._redact(url)} answered HTTP {code}{f' {text}' if text else ''}")

    def _browser_event(self, method: str, params: Params) -> None:
        match method:
            case "Target.targetCreated":
                info = params["targetInfo"]
                if info["type"] == "page" and info["targetId"] != self._target_id:
                    self._connection.notify("Target.closeTarget", targetId=info["targetId"])

    def _event(self, method: str, params: Params) -> None:
        match method:
            case "Runtime.consoleAPICalled":
                self._console_call(params)
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                text = details.get("exception", {}).get("description") or details.get("text", "")
                self._say("error", str(text).partition("\n")[0])
            case "Log.entryAdded":
                entry = params["entry"]
                where = f" ({entry['url']})" if entry.get("url") else ""
                self._say(entry["level"], entry["text"] + where)
            case "Page.frameNavigated" if "parentId" not in params["frame"]:
                self.network.forget_connections()
            case "Page.loadEventFired":
                if self.network.has_navigated:  # about:blank has one too
                    self._loaded.set()
            case "Page.lifecycleEvent":
                if params["name"] == "firstPaint" and self.network.is_main(params["loaderId"]):
                    self._painted.set()
            case "Page.javascriptDialogOpening":
                # Dialogs are refused, but the question whether to leave the page is answered with yes.
                accept = params["type"] == "beforeunload"
                self._connection.notify("Page.handleJavaScriptDialog", self._session_id, accept=accept)
            case "Inspector.targetCrashed":
                if not self.crashed.done():
                    self.crashed.set_result(None)
                    self._listener(Crashed())
            case _:
                self.network.take(method, params)
                for told in self._room.take(method, params) if self._room is not None else ():
                    self._listener(OwnParticipantUpdate(told))

    def _console_call(self, params: Params) -> None:
        values = [_text(argument) for argument in params["args"]]
        if START_SIGNAL in values:
            self._listener(StartSignal())
        elif END_SIGNAL in values:
            self._listener(EndSignal())
        else:
            self._say(params["type"], " ".join(values))

    def _say(self, level: str, text: str) -> None:
        line = self._shorten(text)
        if level == "error":
            self._console_errors.append(line)
        self._listener(Console(level, line))

    def _shorten(self, text: str) -> str:
        text = self._redact(text[:READ_LENGTH])
        return text if len(text) <= LINE_LENGTH else text[:LINE_LENGTH] + "..."


def _text(argument: Params) -> str:
    """A console argument (Runtime.RemoteObject) as the page's developer would read it."""
    value = argument.get("value")
    if isinstance(value, str):
        return value
    if value is not None:
        return msgspec.json.encode(value).decode()
    return str(argument.get("description", argument.get("type", "")))


EXPLANATIONS = {
    "net::ERR_NAME_NOT_RESOLVED": "its host name is not known to DNS here",
    "net::ERR_CONNECTION_REFUSED": "nothing listens at its address",
    "net::ERR_CONNECTION_TIMED_OUT": "its address does not answer",
    "net::ERR_ADDRESS_UNREACHABLE": "its address cannot be reached from here",
    "net::ERR_INTERNET_DISCONNECTED": "this machine has no network",
    "net::ERR_CONNECTION_RESET": "its server closed the connection",
    "net::ERR_CONNECTION_CLOSED": "its server closed the connection",
    "net::ERR_EMPTY_RESPONSE": "its server closed the connection without an answer",
    "net::ERR_TOO_MANY_REDIRECTS": "it redirects without end",
    "net::ERR_ABORTED": "it answered with nothing to show (a download, or no content)",
    "net::ERR_UNSAFE_PORT": "browsers refuse this port",
}


def _explain(error: str) -> str:
    if error.startswith("net::ERR_CERT_"):
        return f"its TLS certificate is not valid ({error})"
    if error.startswith("net::ERR_SSL_"):
        return f"TLS failed ({error})"
    known = EXPLANATIONS.get(error)
    return f"{known} ({error})" if known else error
