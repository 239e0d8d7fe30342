"""A browser that starts before there is a request for it."""

import asyncio
import logging
import os
from dataclasses import dataclass

from openegress.core.codecs import DEFAULT_AUDIO_HZ
from openegress.core.ipc import HandlerSettings
from openegress.core.plan import Plan, needs_browser
from openegress.core.scratch import browser_folder
from openegress.source.web.browser import Browser

_log = logging.getLogger(__name__)

_UNSEEN = (1280, 720, 10)
"""Width, height and rate of a page that is only heard: it still needs a window."""


@dataclass(frozen=True, slots=True)
class BrowserShape:
    """The shape of the browser to start. Sound and picture may go unused."""

    width: int
    height: int
    framerate: int
    audio: bool = True
    video: bool = True
    sample_rate: int = DEFAULT_AUDIO_HZ

    @classmethod
    def of(cls, plan: Plan) -> "BrowserShape | None":
        """The shape for a plan; None: the plan needs no browser."""
        if not needs_browser(plan):
            return None
        video, audio = plan.video, plan.audio
        width, height, framerate = (video.width, video.height, video.framerate) if video else _UNSEEN
        rate = audio.sample_rate if audio else DEFAULT_AUDIO_HZ
        return cls(width, height, framerate, audio is not None, video is not None, rate)

    def serves(self, wanted: "BrowserShape") -> bool:
        if wanted.audio and (not self.audio or self.sample_rate != wanted.sample_rate):
            return False
        if not wanted.video:
            return True
        size = (wanted.width, wanted.height, wanted.framerate)
        return self.video and (self.width, self.height, self.framerate) == size


class WarmBrowser:
    """A browser that was started ahead. The caller that takes it owns it; call close() otherwise."""

    def __init__(self, settings: HandlerSettings, shape: BrowserShape) -> None:
        """Begins to start the browser, on the event loop."""
        self._settings = settings
        self._shape = shape
        self._starting: asyncio.Task[Browser] | None = asyncio.create_task(_start(settings, shape))

    async def ready(self) -> None:
        """Returns when it is up. Never raises: if it failed, the request starts another and reports the
        error."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
            if not self._starting.cancelled() and (error := self._starting.exception()) is not None:
                _log.warning("no browser could be started ahead: %s", error)

    async def take(self, shape: BrowserShape) -> Browser:
        """Returns the browser, or another one if it is unsuitable or never came up. Raises EgressError."""
        starting, self._starting = self._starting, None
        if starting is None:
            return await _start(self._settings, shape)
        if self._shape.serves(shape):
            if not (starting.done() and starting.exception() is not None):
                browser = await starting
                if browser.is_whole:
                    return browser
                _log.warning("the browser that was started ahead has died: starting another")
                await browser.close()
        else:
            await _discard(starting)
        return await _start(self._settings, shape)

    async def close(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            await _discard(starting)


async def _start(settings: HandlerSettings, shape: BrowserShape) -> Browser:
    return await Browser.start(
        settings.browser,
        shape.width,
        shape.height,
        shape.framerate,
        browser_folder(settings.spool, os.getpid()),
        audio=shape.audio,
        video=shape.video,
        sample_rate=shape.sample_rate,
    )


async def _discard(starting: "asyncio.Task[Browser]") -> None:
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled() and starting.exception() is None:
        await starting.result().close()
