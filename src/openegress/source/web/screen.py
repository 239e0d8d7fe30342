"""Watches a page's display: when it changed, and its current picture."""

import av

from openegress.source.web.damage import Damage, Drawn
from openegress.source.web.display import Display
from openegress.source.web.framebuffer import Framebuffer


class DisplayScreen:
    """The display of one page. Poll it for reading (it has a fileno), then call look(). Belongs to one
    thread. Raises XError when the display is gone."""

    def __init__(self, display: Display) -> None:
        self._damage = Damage(display.number, display.cookie)
        try:
            self._framebuffer = Framebuffer(display.framebuffer_file)
        except BaseException:
            self._damage.close()
            raise
        self.width, self.height = self._framebuffer.width, self._framebuffer.height

    def fileno(self) -> int:
        return self._damage.fileno()

    def look(self) -> int | None:
        """When the page last drew, on the monotonic clock in ns; None: it has not drawn since the last
        call."""
        return self._follow(self._damage.drain())

    def drawn_meanwhile(self) -> int | None:
        """Like look(), without polling first."""
        return self._follow(self._damage.settled())

    def ask(self) -> None:
        """Asks the display to answer; look() reads the answer."""
        self._damage.ask()

    @property
    def asked_s(self) -> float | None:
        """Monotonic time of the request that the display has not answered; None: all are answered."""
        return self._damage.asked_s

    def grab(self) -> av.VideoFrame:
        """The picture as it is now: yuv420p, BT.709, limited range. It is not written to again."""
        return self._framebuffer.grab()

    def close(self) -> None:
        self._damage.close()

    def _follow(self, drawn: Drawn | None) -> int | None:
        if drawn is None:
            return None
        self._framebuffer.follow(drawn.rows)
        return drawn.at_ns
