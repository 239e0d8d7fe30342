"""What a page draws on its display: when, and the picture."""

import av

from openegress.source.web.damage import Damage, Drawn
from openegress.source.web.display import Display
from openegress.source.web.framebuffer import Framebuffer


class DisplayScreen:
    """Poll it for reading (it has a fileno), then look(). Belongs to one thread. Raises XError when the
    display is gone."""

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
        """When the page drew last, on the monotonic clock, ns; None: it has drawn nothing since."""
        return self._follow(self._damage.drain())

    def drawn_meanwhile(self) -> int | None:
        """As look(), but need not be polled before."""
        return self._follow(self._damage.settled())

    def ask(self) -> None:
        """Whether the display answers; look() takes the answer."""
        self._damage.ask()

    @property
    def asked_s(self) -> float | None:
        """When it was asked for what it has not answered, monotonic; None: it has answered."""
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
