"""Computes how late a page shows and plays WebRTC media, from the counters of its browser. Pure.

The browser counts from a medium's arrival: jitterBufferDelay and totalPlayoutDelay of W3C webrtc-stats,
receiveTime and presentationTime of requestVideoFrameCallback (https://wicg.github.io/video-rvfc/). The delays
after that were measured with a publisher's flash and beep.
"""

from dataclasses import dataclass

from openegress.core.units import MS, S

DRAWN_NS = 10 * MS
"""Time from handing a picture to the browser's compositor to its slot in the recording: 5 to 21 ms, because
slots and the page's frames do not begin together."""
SHOWN_NS = 36 * MS
"""Time from when a picture leaves its buffer to its capture: 20 to 53 ms, because it waits for the browser's
next frame."""
PLAYED_NS = 44 * MS
"""The browser's default for the delay of its sound output, if it does not report one."""
AHEAD_NS = 12 * MS
"""Our sound server renders this long before it reports sound as played, and sound is captured then."""
LONGEST_NS = 2000 * MS
"""Limit for a page's values, which may be anything."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The waits of all pictures or samples of a page, since it began."""

    seconds: float = 0.0
    """The sum of all their waits."""
    count: int = 0

    def since(self, earlier: "Waits") -> int | None:
        """The mean wait since `earlier`, in ns; None: there were no pictures or samples."""
        seconds, count = self.seconds, self.count
        if count >= earlier.count:  # otherwise counting started again, after a reconnect
            seconds, count = seconds - earlier.seconds, count - earlier.count
        if count <= 0:
            return None
        return round(max(0.0, min(LONGEST_NS / S, seconds / count)) * S)  # pages may say anything


@dataclass(frozen=True, slots=True)
class PlayoutWaits:
    """A page's report about its WebRTC."""

    pictures: Waits = Waits()
    """Waits of pictures in their buffer."""
    shown: Waits = Waits()
    """Waits of some pictures from arrival until they are handed to the compositor."""
    sound: Waits = Waits()
    """Waits of sound in its buffer."""
    played: Waits = Waits()
    """Waits of sound after its buffer, as reported by the sound output."""


class PlayoutDelays:
    """The delays of one page."""

    def __init__(self) -> None:
        self._last = PlayoutWaits()
        self.shown_ns: int | None = None
        """How long after its arrival a picture is captured; None: no picture has arrived."""
        self.heard_ns: int | None = None
        """How long after its arrival sound is heard; None: no sound has arrived."""

    @property
    def seen_ns(self) -> int | None:
        """shown_ns; without pictures, the delay of one that would be in step with the sound; None: nothing
        has come."""
        return self.heard_ns if self.shown_ns is None else self.shown_ns

    def look(self, now: PlayoutWaits) -> None:
        """Takes a new report of the page."""
        before, self._last = self._last, now
        shown, held = now.shown.since(before.shown), now.pictures.since(before.pictures)
        if shown is not None:
            self.shown_ns = shown + DRAWN_NS
        elif held is not None:
            self.shown_ns = held + SHOWN_NS
        heard = now.sound.since(before.sound)
        played = now.played.since(before.played)
        if heard is not None:
            self.heard_ns = heard + (PLAYED_NS if played is None else played) - AHEAD_NS
