"""Finds the line of a track's quickest arrivals, which maps RTP time to our clock. Pure.

A frame's transit is its arrival less its RTP time. It varies with the network, but the quickest frames of a
second or two lie on one line, which follows the drift between the sender's clock and ours. Two things move
the line at once: RTP time that stood still while time passed (capture that paused), and RTP time that jumped.
Both show as frames that are all late, or early, by the same. A burst after a network's pause shows late
frames too, but the ones behind it are in time again, so late frames are held for a moment before the line
moves."""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from openegress.core.units import MS, S
from openegress.room.rtp.packets import OVERTAKEN

IDLE_NS = 200 * MS
"""A pause ages the window by at most this much: after a pause of minutes the line is still the best guess."""
SPREAD_DECAY = 0.99
"""Factor for the spread at each frame: after 100 frames a period of jitter counts for a third."""
SPREAD_FACTOR = 1.2
"""A frame that is later than the recent jitter times this is late, not jittered."""
STEP_NS = 2 * MS
"""A line that moves by more than this from one frame to the next does not drift."""
SHORTER_NS = 3 * MS
"""If frames become less late by this, one after the other, they are behind a queue that is getting
shorter."""
DRAINED_NS = 60 * MS
"""Each such frame extends the hold to this long after its arrival."""
LONGEST_DOUBT_NS = 500 * MS
TOGETHER_NS = 100 * MS
"""If frames that came within this time are late while a sibling's line moves, the path of both has become
slower."""
LATE_TOGETHER_NS = 60 * MS
MAX_QUICKER_NS = 1 * S
"""If frames come earlier by more than this, RTP time jumped."""


@dataclass(frozen=True, slots=True)
class ArrivalPolicy:
    """Limits of an ArrivalLine, in ns. The tolerance follows the jitter between `tolerance_ns` and
    `most_tolerance_ns`."""

    window_ns: int
    """Time for which the quickest frame counts."""
    begin_ns: int
    """The first frames are held this long, to find a quick one among them."""
    doubt_ns: int
    """Late frames are held this long, to see whether the next ones are late too."""
    tolerance_ns: int
    most_tolerance_ns: int


AUDIO = ArrivalPolicy(2 * S, 120 * MS, 200 * MS, 60 * MS, 100 * MS)
VIDEO = ArrivalPolicy(3 * S, 120 * MS, 300 * MS, 120 * MS, 250 * MS)
"""The limits are larger: a large key frame takes a while on a slow link, and the frames after it wait for
it."""


class _State(Enum):
    EMPTY = auto()
    BEGINNING = auto()
    STEADY = auto()
    DOUBTFUL = auto()


class Placement(Enum):
    """The places that are known once a frame has been observed."""

    KNOWN = auto()
    """Its own place is known, and those of all frames held before it."""
    HELD = auto()
    """No place is known: the frame must be held until another frame is observed, or `due_ns` comes."""
    HELD_BEHIND = auto()
    """The places of all frames held before it are known; the frame itself must be held."""


class ArrivalLine:
    """The line of one track. RTP times are unwrapped and in ns; arrivals are monotonic ns."""

    def __init__(self, policy: ArrivalPolicy) -> None:
        self._policy = policy
        self._state = _State.EMPTY
        self._window: deque[tuple[int, int]] = deque()
        """(active time, transit), both rising: the head is the least transit of the window."""
        self._active_ns = 0
        self.heard_ns = 0
        """Arrival of the last frame."""
        self._spread_ns = 0.0
        self._least_ns = self._most_ns = 0
        """Transit of the quickest and of the slowest held frame."""
        self._began_ns = 0
        """When the first held frame came."""
        self.due_ns: int | None = None
        """When the place of held frames is decided, if no frame decides it before."""
        self.base_ns: int | None = None
        """The number to add to an RTP time; None before anything is known."""
        self.jumped_ns = 0
        """The sum of the line's moves other than drift: where RTP time stood still or jumped."""

    def observe(self, rtp_ns: int, arrival_ns: int) -> Placement:
        """Takes a frame. If its arrival is OVERTAKEN, it waits for the frame that overtook it."""
        if arrival_ns == OVERTAKEN:
            return Placement.HELD
        self._active_ns += max(0, min(arrival_ns - self.heard_ns, IDLE_NS))
        self.heard_ns = max(self.heard_ns, arrival_ns)
        transit_ns = arrival_ns - rtp_ns
        match self._state:
            case _State.EMPTY:
                self._hold(_State.BEGINNING, transit_ns, arrival_ns + self._policy.begin_ns)
            case _State.STEADY if self._is_late(transit_ns):
                self._hold(_State.DOUBTFUL, transit_ns, arrival_ns + self._policy.doubt_ns)
            case _State.STEADY:
                self._add(transit_ns)
            case _ if transit_ns - self._least_ns > self._tolerance_ns:
                # Even later than the held frames: RTP time stood still between them and this one.
                self.settle()
                self._hold(_State.DOUBTFUL, transit_ns, arrival_ns + self._policy.doubt_ns)
                return Placement.HELD_BEHIND
            case _State.DOUBTFUL if not self._is_late(transit_ns):
                self._state, self.due_ns = _State.STEADY, None
                assert self.base_ns is not None
                self._spread_ns = max(self._spread_ns, float(self._most_ns - self.base_ns))
                self._add(transit_ns)
            case _:
                if self._state is _State.DOUBTFUL and transit_ns < self._least_ns - SHORTER_NS:
                    self._doubt_longer(arrival_ns)
                self._least_ns = min(self._least_ns, transit_ns)
                self._most_ns = max(self._most_ns, transit_ns)
        self.decide(arrival_ns)
        return Placement.KNOWN if self._state is _State.STEADY else Placement.HELD

    def decide(self, now_ns: int) -> bool:
        """Call it when time has passed. Returns whether the place of held frames is known."""
        if self.due_ns is not None and now_ns >= self.due_ns:
            self.settle()
        return self._state is _State.STEADY

    def settle(self) -> None:
        """Decides the place of held frames by the frames that have come so far."""
        if self._state in (_State.BEGINNING, _State.DOUBTFUL):
            self._begin(self._least_ns)

    def follow(self, now_ns: int) -> None:
        """Call it when the line of the sound that is sent with these frames has moved because the sound came
        late. If these frames come late too, their line moves with it: the path of both has become slower."""
        if self.base_ns is None or now_ns - self.heard_ns > TOGETHER_NS:
            return
        if self._state is _State.DOUBTFUL:
            # They are later than that. Even if they are the last frames, they are handed out at due_ns.
            self.due_ns = now_ns
        elif self._state is _State.STEADY:
            since_ns = self._active_ns - TOGETHER_NS
            lately_ns = next(transit_ns for at_ns, transit_ns in self._window if at_ns >= since_ns)
            if lately_ns - self.base_ns > LATE_TOGETHER_NS:
                self._begin(lately_ns)

    def restart(self) -> None:
        """Prepares for another SSRC, whose RTP time starts elsewhere."""
        self._state, self.due_ns = _State.EMPTY, None
        self.base_ns = None

    def _doubt_longer(self, arrival_ns: int) -> None:
        """Holds late frames longer, because the cause of the delay is ending."""
        assert self.due_ns is not None
        longest_ns = self._began_ns + LONGEST_DOUBT_NS
        self.due_ns = max(self.due_ns, min(arrival_ns + DRAINED_NS, longest_ns))

    def _hold(self, state: _State, transit_ns: int, due_ns: int) -> None:
        self._state, self.due_ns, self._began_ns = state, due_ns, self.heard_ns
        self._least_ns = self._most_ns = transit_ns

    def _begin(self, transit_ns: int) -> None:
        if self.base_ns is not None:
            self._moved(transit_ns - self.base_ns)
        self._state, self.due_ns = _State.STEADY, None
        self._window.clear()
        self._window.append((self._active_ns, transit_ns))
        self._spread_ns = 0.0
        self.base_ns = transit_ns

    @property
    def _tolerance_ns(self) -> float:
        policy = self._policy
        return max(policy.tolerance_ns, min(policy.most_tolerance_ns, SPREAD_FACTOR * self._spread_ns))

    def _is_late(self, transit_ns: int) -> bool:
        assert self.base_ns is not None
        return transit_ns - self.base_ns > self._tolerance_ns

    def _add(self, transit_ns: int) -> None:
        assert self.base_ns is not None
        if self.base_ns - transit_ns > self._policy.tolerance_ns:
            self._begin(transit_ns)
            return
        window = self._window
        while window and window[-1][1] >= transit_ns:
            window.pop()
        window.append((self._active_ns, transit_ns))
        while window[0][0] < self._active_ns - self._policy.window_ns:
            window.popleft()
        self._spread_ns = max(float(transit_ns - self.base_ns), self._spread_ns * SPREAD_DECAY)
        moved_ns = window[0][1] - self.base_ns
        if abs(moved_ns) > STEP_NS:
            self._moved(moved_ns)
        self.base_ns += moved_ns

    def _moved(self, by_ns: int) -> None:
        if by_ns > 0 or by_ns < -MAX_QUICKER_NS:
            self.jumped_ns += by_ns
        else:
            # The path or the encoder has become quicker: its earlier delay is over.
            self.jumped_ns = max(min(self.jumped_ns, 0), self.jumped_ns + by_ns)
