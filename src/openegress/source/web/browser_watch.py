"""Notices when a part of a running browser ends, or uses too much memory or disk, and decides how that ends a
recording."""

import asyncio
from collections.abc import Callable, Coroutine

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.tasks import cancelled
from openegress.source import Failed, Notice, SourceEvent
from openegress.source.web.audio_capture import AudioCapture
from openegress.source.web.browser import Browser
from openegress.source.web.memory import used_bytes
from openegress.source.web.process import Child
from openegress.source.web.stored import stored_bytes
from openegress.source.web.video_capture import VideoCapture

MEMORY_EVERY_S, MEMORY_CLOSE_S = 1.0, 0.1
"""Interval between two checks, normally and once a page uses more than half of its limit: JavaScript can
allocate up to a gigabyte a second."""
DISK_EVERY_S = 1.0
MAX_STORED_BYTES = 1024 * 1024 * 1024
"""Limit for a page's files on the disk that recordings share. A browser keeps up to a third of a gigabyte of
what a page has loaded, and would let the page fill most of the disk."""
CAUSE_DELAY_S = 0.2
"""Chromium dies with its display, whose death may be noticed this much later."""
_MIB = 2**20


class BrowserWatch:
    """Watches the browser of one recording. Only the first failure counts."""

    def __init__(
        self, browser: Browser, tell: Callable[[SourceEvent], None], *, records_picture: bool
    ) -> None:
        """`records_picture`: the recording can continue without sound."""
        self._browser = browser
        self._tell = tell
        self._records_picture = records_picture
        self._most_bytes = 0
        self._watchers: list[asyncio.Task[None]] = []
        self.phase = Phase.PAGE_LOAD
        """The phase of the recording, for errors."""
        self.failure: asyncio.Future[EgressError] = asyncio.get_running_loop().create_future()

    def processes(self, memory_bytes: int) -> None:
        """Watches all processes of the browser. `memory_bytes`: the browser's limit; 0: none."""
        for child in self._browser.children:
            self._begin(self._watch_child(child))
        if memory_bytes:
            self._most_bytes = memory_bytes
            if (cgroup := self._browser.chromium.cgroup) is not None:
                cgroup.limit(memory_bytes)
            self._begin(self._watch_memory(memory_bytes))
        self._begin(self._watch_disk(MAX_STORED_BYTES))

    def picture(self, video: VideoCapture) -> None:
        self._begin(self._watch_picture(video))

    def sound(self, audio: AudioCapture) -> None:
        self._begin(self._watch_sound(audio))

    def fail(self, why: str, fault: Fault = Fault.SERVICE) -> None:
        self._fail(browser_error(self.phase, why, fault))

    async def or_failure(self, work: Coroutine[object, object, None]) -> None:
        """Runs `work`; raises the failure if a process dies meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.failure), return_when=asyncio.FIRST_COMPLETED)
            if self.failure.done():
                raise self.failure.result()
            await task
        finally:
            if not task.done():
                await cancelled(task)

    async def close(self) -> None:
        await cancelled(*self._watchers)

    async def _watch_child(self, child: Child) -> None:
        status = await asyncio.shield(child.exited)
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        browser = self._browser
        if child is browser.chromium.child:
            cgroup = browser.chromium.cgroup
            if cgroup is not None and cgroup.ran_out:
                self._fail(self._too_much(self._most_bytes))
                return
            await asyncio.wait([browser.display.child.exited], timeout=CAUSE_DELAY_S)
            self.fail(f"the browser ended unexpectedly ({how})")
        elif child is browser.display.child:
            self.fail(f"the display ended unexpectedly (Xvfb: {how})")
        else:
            self._sound_lost(f"PulseAudio: {how}")

    async def _watch_memory(self, most_bytes: int) -> None:
        """Kills the browser immediately when it exceeds the limit: a leak may use up all memory within
        seconds."""
        chromium = self._browser.chromium.child
        while True:
            used = await asyncio.to_thread(used_bytes, chromium.pid)
            if used > most_bytes:
                break
            await asyncio.sleep(MEMORY_CLOSE_S if used > most_bytes / 2 else MEMORY_EVERY_S)
        self._fail(self._too_much(used))
        await chromium.stop(grace_s=0)

    async def _watch_disk(self, most_bytes: int) -> None:
        while True:
            stored = await asyncio.to_thread(stored_bytes, self._browser.folder, most_bytes)
            if stored > most_bytes:
                break
            await asyncio.sleep(DISK_EVERY_S)
        self._fail(self._exhausted(f"the page has stored more than {most_bytes // _MIB} MiB on the disk"))
        await self._browser.chromium.child.stop(grace_s=0)

    def _too_much(self, used_bytes: int) -> EgressError:
        used_mib, most_mib = used_bytes // _MIB, self._most_bytes // _MIB
        return self._exhausted(
            f"the page takes {used_mib} MiB of memory, and one may take {most_mib}: "
            "raise page_max_memory if it needs that much"
        )

    def _exhausted(self, why: str) -> EgressError:
        return EgressError(Code.RESOURCE_EXHAUSTED, why, fault=Fault.DESTINATION, phase=self.phase)

    async def _watch_picture(self, video: VideoCapture) -> None:
        try:
            await asyncio.shield(asyncio.wrap_future(video.ended))
        except Exception as e:
            await asyncio.sleep(CAUSE_DELAY_S)  # if the display died, its watcher reports that
            self.fail(f"no more pictures from the display: {e!r}")

    async def _watch_sound(self, audio: AudioCapture) -> None:
        try:
            why = await asyncio.shield(asyncio.wrap_future(audio.lost))
        except Exception as e:
            self.fail(f"no more sound: {e!r}")
        else:
            self._sound_lost(why)

    def _sound_lost(self, why: str) -> None:
        if self._records_picture:
            self._tell(Notice("sound lost, the recording continues in silence", {"cause": why}))
        else:
            self.fail(f"the sound server ended unexpectedly ({why})")

    def _fail(self, error: EgressError) -> None:
        if not self.failure.done():
            self.failure.set_result(error)
            self._tell(Failed(error))

    def _begin(self, watcher: Coroutine[object, object, None]) -> None:
        self._watchers.append(asyncio.ensure_future(watcher))


def browser_error(phase: Phase, message: str, fault: Fault = Fault.SERVICE) -> EgressError:
    return EgressError(Code.INTERNAL, message, fault=fault, phase=phase)
