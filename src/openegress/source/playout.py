"""How late a page shows and plays what reaches it by WebRTC, from what its browser counts. Pure.

The browser counts from a medium's arrival: jitterBufferDelay and totalPlayoutDelay of W3C webrtc-stats,
receiveTime and presentationTime of requestVideoFrameCallback (https://wicg.github.io/video-rvfc/). What comes
behind that was measured by flash and beep of a publisher.
"""

from dataclasses import dataclass

from openegress.core.units import MS, S

DRAWN_NS = 10 * MS
"""From a picture's being handed to the browser's compositor to its slot in the recording: 5 to 21 ms, as
slots and the page's frames do not begin together."""
SHOWN_NS = 36 * MS
"""From a picture's leaving its buffer to its being captured: 20 to 53 ms, as it waits for the browser's next
frame."""
PLAYED_NS = 44 * MS
"""The browser's default for the delay of its sound output, if it does not report one."""
AHEAD_NS = 12 * MS
"""Our sound server renders this much before it reports sound as played, and sound is captured then."""
LONGEST_NS = 2000 * MS
"""Bounds a page's values, which may be anything."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Of all pictures or samples of a page, since it began."""

    seconds: float = 0.0
    """The sum of all their waits."""
    count: int = 0

    def since(self, earlier: "Waits") -> int | None:
        """The mean of those since then, in ns; None: there were none."""
        seconds, count = self.seconds, self.count
        if count >= earlier.count:  # otherwise it counts anew, after a reconnect
            seconds, count = seconds - earlier.seconds, count - earlier.count
        if count <= 0:
            return None
        return round(max(0.0, min(LONGEST_NS / S, seconds / count)) * S)  # pages may say anything


@dataclass(frozen=True, slots=True)
class PlayoutWaits:
    """A page's report about its WebRTC."""

    pictures: Waits = Waits()
    """In their buffer."""
    shown: Waits = Waits()
    """From a picture's arrival to its being handed to the compositor, of some."""
    sound: Waits = Waits()
    """In its buffer."""
    played: Waits = Waits()
    """Behind that, as the output of sound says."""


class PlayoutDelays:
    """Follows one page."""

    def __init__(self) -> None:
        self._last = PlayoutWaits()
        self.shown_ns: int | None = None
        """How long after its arrival a picture is captured; None: no picture has arrived."""
        self.heard_ns: int | None = None
        """The same for sound."""

    @property
    def seen_ns(self) -> int | None:
        """shown_ns, or that of a picture with the sound where there is none; None: nothing has come."""
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
