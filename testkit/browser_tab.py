"""A tab of a headless Chromium, to look at our pages from the inside."""

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openegress.source.web.cdp import DevToolsConnection
from openegress.source.web.chromium import find_binary
from openegress.source.web.identity import browser_identity
from openegress.source.web.process import Child

WITHIN_S = 10.0
"""Far above the duration of anything here, for machines with much else to do."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)


class Tab:
    """`said` holds the console output of the page, as (level, text)."""

    def __init__(self, connection: DevToolsConnection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._more = asyncio.Event()
        self.said: list[tuple[str, str]] = []
        connection.listen(session, self._event)

    async def open(self, url: str) -> None:
        await self._connection.command("Page.navigate", self._session, url=url)

    async def run(self, expression: str, timeout_s: float = 2 * WITHIN_S) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self._connection.command(
            "Runtime.evaluate",
            self._session,
            timeout_s=timeout_s,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def becomes(self, expression: str, wanted: Any, within_s: float = WITHIN_S) -> None:
        """Waits until the expression has this value (read once a frame); fails with its actual value."""
        value = await self.run(
            f"""new Promise((resolve) => {{
              const wanted = JSON.stringify({json.dumps(wanted)});
              const deadline = performance.now() + {within_s * 1000};
              const look = () => {{
                const value = {expression};
                const done = JSON.stringify(value) === wanted || performance.now() > deadline;
                if (done) resolve(value); else requestAnimationFrame(look);
              }};
              look();
            }})""",
            timeout_s=within_s + WITHIN_S,
        )
        assert value == wanted, f"{value!r} instead of {wanted!r} as {expression}"

    async def sees(self, text: str, where: str = "body") -> None:
        """Waits until the text can be read in the element; fails with the element's actual text."""
        shown = f"(document.querySelector({json.dumps(where)})?.innerText ?? '')"
        needle = json.dumps(text)
        await self.becomes(f"({shown}.includes({needle}) ? {needle} : {shown})", text)

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, key: str, code: int) -> None:
        """A key of the keyboard, by its DOM name ("Tab") and its Windows virtual code."""
        for kind in ("keyDown", "keyUp"):
            await self._connection.command(
                "Input.dispatchKeyEvent",
                self._session,
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text="\r" if key == "Enter" and kind == "keyDown" else "",
            )

    async def appear(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """A viewport of this size, and the colour scheme that the user prefers."""
        await self._connection.command(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._connection.command("Emulation.setEmulatedMedia", self._session, features=[scheme])

    async def photograph(self, path: Path) -> None:
        """What the viewport shows, as a PNG."""
        taken = await self._connection.command("Page.captureScreenshot", self._session, format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(taken["data"]))

    async def hears(self, text: str, within_s: float = WITHIN_S) -> str:
        """Waits until the page writes something with this text to its console; returns the line."""

        try:
            async with asyncio.timeout(within_s):
                while True:
                    self._more.clear()
                    for _, said in self.said:
                        if text in said:
                            return said
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} was not said: {self.said}") from None

    async def attach(self) -> None:
        """Called once, before anything else."""
        await self._connection.command("Page.enable", self._session)
        await self._connection.command("Runtime.enable", self._session)

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            text = " ".join(str(one.get("value", one.get("description", ""))) for one in params["args"])
            self.said.append((params["type"], text))
        elif method == "Runtime.exceptionThrown":
            self.said.append(("exception", str(params["exceptionDetails"])))
        else:
            return
        self._more.set()


@asynccontextmanager
async def open_tab(width: int = 1280, height: int = 720, flags: Sequence[str] = ()) -> AsyncIterator[Tab]:
    """A blank tab with a viewport of this size, in a separate browser with `flags` for Chromium."""
    home = _home()
    to_browser, from_browser = os.pipe(), os.pipe()
    child = Child.spawn(
        "chromium",
        [find_binary(""), *FLAGS, *flags, f"--user-data-dir={home}/profile", "about:blank"],
        {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
        },
        browser_identity(""),
        fds={to_browser[0]: 3, from_browser[1]: 4},
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    connection = await DevToolsConnection.open(from_browser[0], to_browser[1])
    try:
        target = await connection.command("Target.createTarget", url="about:blank")
        attached = await connection.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        session = attached["sessionId"]
        await connection.command(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        tab = Tab(connection, session)
        await tab.attach()
        yield tab
    finally:
        connection.close()
        await child.stop(5.0)
        child.release()
        shutil.rmtree(home, ignore_errors=True)


def _home() -> Path:
    """A folder that the browser's user may write to, whichever user that is."""
    home = Path(tempfile.mkdtemp(prefix="browser-tab-"))
    home.chmod(0o777)
    return home
