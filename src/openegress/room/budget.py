"""Limits what a track may cost a recorder: a track that costs more is left out, and later taken again. Pure.

The limits lie far above what any sender of real-time media needs. They allow bursts, because packets that a
network held up arrive at once. Times are monotonic ns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from openegress.core.codecs import MediaKind
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.core.units import S

MAX_PIXELS = 5120 * 3200
"""Limit for a decoded picture: the size of the largest shared screens."""
FIRST_PAUSE_NS = 5 * S
"""Time for which a track is left out the first time; it doubles each time after that."""
LONGEST_PAUSE_NS = 60 * S
FORGIVEN_AFTER_NS = 60 * S
"""A track that has behaved for this long counts as a new one."""
PROBATION = 1 / 6
"""The share of the burst that a track gets when it is taken again: five seconds of sound."""
MAX_ROOM_PACKETS = 20_000
"""Packets a second of all tracks together: about half of what one core can receive."""


class Reason(StrEnum):
    """Why a track is left out, in words that follow its name."""

    PACKETS = "it sends more packets than can be played in real time"
    SOUND = "it sends more sound than can be played in real time"
    PICTURES = "it sends more pictures than can be played in real time"
    PIXELS = "its pictures are larger than 5120x3200"
    DECODING = "its pictures take too long to decode"
    SHARE = "the room sends more than can be received, and its participant the most"
    MEMORY = "the recording ran short of memory, and it held the most"
    TROUBLE = "its media could not be handled"
    WRONG_KEY = "it is encrypted with a key that is not one of its room's keys"
    KEY_CHANGED = "it is now encrypted with another key, which is not one of its room's keys"


KEY_REASONS = frozenset({Reason.WRONG_KEY, Reason.KEY_CHANGED})


@dataclass(frozen=True, slots=True)
class TrackLimits:
    packets: RefillRate
    media: RefillRate
    """Seconds of sound, or pictures."""
    reason: Reason
    """Why a track that sends too much media is left out."""


SOUND = TrackLimits(RefillRate(500, 3000), RefillRate(1.05, 30), Reason.SOUND)
"""Opus in frames of 2.5 ms has 400 packets a second. The burst is half a minute of sound, which arrives at
once after the recorder's own network stood still."""
PICTURES = TrackLimits(RefillRate(5000, 10_000), RefillRate(300, 1500), Reason.PICTURES)
"""48 Mbit/s in packets of 1,200 bytes."""

DECODING = RefillRate(0.7, 0.3)
"""Seconds of decoding for a second of one track's pictures: 2160p30 takes half of that."""
ROOM_DECODING = RefillRate(0.8, 0.4)
"""Like DECODING, for all tracks together: one thread decodes them."""
ENTITLED = RefillRate(0.15, 0.05)
"""The minimum for each track, whatever the others cost: enough for 720p30."""
ALL_ENTITLED_PER_S = 0.6
"""The share that all tracks together are entitled to: the more tracks, the less each is entitled to."""
GREEDY = RefillRate(0.3, 0.3)
"""CPU seconds for a second of a track's own media. If a track that takes less is late, other tracks or the
machine are the cause."""
CHANGES = RefillRate(20, 20)
"""Selections of what is recorded: if the room changes more often, several changes make one selection."""
MAX_LATE_NS = 3 * S // 2
"""Pictures may be this late because there is no time to decode them."""
MAX_WAITING_BYTES = 32 * 2**20
"""Bytes of one track that wait to be decoded: two seconds of what its packets may carry."""


class TrackBudget:
    """The budget of one track, from the time it is taken until it is left out."""

    def __init__(self, kind: MediaKind, *, on_probation: bool = False) -> None:
        """`on_probation`: the track was left out before, and soon shows whether it behaves."""
        self._limits = SOUND if kind is MediaKind.AUDIO else PICTURES
        share = PROBATION if on_probation else 1.0
        self._packets = TokenBucket(self._limits.packets, share)
        self._media = TokenBucket(self._limits.media, share)

    def packets(self, count: int, now_ns: int) -> Reason | None:
        """A packet has arrived, with `count` - 1 missing ones before it, which will be requested and waited
        for. A reason to leave the track out, or None."""
        return None if self._packets.spend(count, now_ns) else Reason.PACKETS

    def media(self, amount: float, now_ns: int) -> Reason | None:
        """Counts seconds of sound, or pictures."""
        return None if self._media.spend(amount, now_ns) else self._limits.reason


class DecodeBudget:
    """Limits the pictures of one track, in addition to the `room` budget that all tracks share. Time is the
    recording's: a second of media must not cost more than a second, whatever else the machine does."""

    def __init__(self, room: TokenBucket) -> None:
        self._room = room
        self._own = TokenBucket(DECODING)
        self._entitled = TokenBucket(ENTITLED)
        self._cpu = TokenBucket(GREEDY)
        self._last_s = 0.0
        """The cost of its last picture; the next one may cost as much."""

    def spend(self, spent_s: float, at_ns: int) -> None:
        """Decoding for the slot at `at_ns` took this long."""
        for bucket in (self._own, self._entitled, self._room):
            bucket.spend(spent_s, at_ns)
        self._last_s = spent_s

    def decoded(self, cpu_s: float, at_ns: int) -> None:
        """A picture with the time `at_ns` took this much CPU time."""
        self._cpu.spend(cpu_s, at_ns)

    def allows(self, at_ns: int, tracks: int) -> bool:
        """Whether there is time for another picture while this many tracks are decoded."""
        if self._own.left(at_ns) <= 0:
            return False
        self._entitled.per_s = min(ENTITLED.per_s, ALL_ENTITLED_PER_S / tracks)
        return self._has(self._room, at_ns) or self._has(self._entitled, at_ns)

    def _has(self, bucket: TokenBucket, at_ns: int) -> bool:
        """Whether the bucket has enough for another picture, or is full."""
        return bucket.left(at_ns) >= min(self._last_s, bucket.burst)

    def is_greedy(self) -> bool:
        """Whether its pictures take long on any machine."""
        return self._cpu.is_overdrawn

    def left(self, at_ns: int) -> float:
        """The decoding time left to the track, in seconds: the track with the most is decoded first."""
        return self._own.left(at_ns)


class UnhurriedDecoding(DecodeBudget):
    """The budget in recordings that nobody waits for: there is time for every picture."""

    def allows(self, at_ns: int, tracks: int) -> bool:
        return True

    def is_greedy(self) -> bool:
        return False


class _State(Enum):
    TAKEN = auto()
    LEFT_OUT = auto()


class Standing:
    """Whether a track is taken, and how long it has been left out. It outlives the track's SID."""

    def __init__(self) -> None:
        self._state = _State.TAKEN
        self._since_ns: int | None = None
        """When it was last left out or taken again; None: it was never left out."""
        self._pause_ns = 0
        """For how long it was left out the last time."""
        self._past_ns = 0
        self.reason: Reason | None = None
        """Why it was left out the last time."""

    @property
    def is_left_out(self) -> bool:
        return self._state is _State.LEFT_OUT

    def leave_out(self, reason: Reason, now_ns: int) -> int:
        """Leaves the track out. Returns for how long, in ns."""
        forgiven = self._since_ns is None or now_ns - self._since_ns >= FORGIVEN_AFTER_NS
        self._pause_ns = FIRST_PAUSE_NS if forgiven else min(LONGEST_PAUSE_NS, 2 * self._pause_ns)
        self._state, self._since_ns, self.reason = _State.LEFT_OUT, now_ns, reason
        return self._pause_ns

    def take(self, now_ns: int) -> None:
        self._past_ns = self.out_ns(now_ns)
        self._state, self._since_ns = _State.TAKEN, now_ns

    def is_forgiven(self, now_ns: int) -> bool:
        """Whether the track has behaved for long enough to be forgotten."""
        if self._state is _State.LEFT_OUT:
            return False
        return self._since_ns is None or now_ns - self._since_ns >= FORGIVEN_AFTER_NS

    def out_ns(self, now_ns: int) -> int:
        """How long it has been left out in total."""
        if self._state is _State.TAKEN or self._since_ns is None:
            return self._past_ns
        return self._past_ns + now_ns - self._since_ns


def greediest(costs: Mapping[str, tuple[str, float]], most: float) -> list[str]:
    """The tracks to leave out so that the rest costs at most `most`. It always takes the most expensive track
    of the participant who costs most, so that people with many tracks do not crowd out those with one.

    `costs`: (identity, cost) by SID.
    """
    left = dict(costs)
    by_identity: dict[str, float] = {}
    for identity, cost in left.values():
        by_identity[identity] = by_identity.get(identity, 0.0) + cost
    total = sum(by_identity.values())
    gone: list[str] = []
    while total > most and left:
        identity = max(by_identity, key=lambda each: by_identity[each])
        own = [sid for sid, (whose, _) in left.items() if whose == identity]
        sid = max(own, key=lambda each: left[each][1])
        _, cost = left.pop(sid)
        gone.append(sid)
        total -= cost
        by_identity[identity] -= cost
        if len(own) == 1:
            del by_identity[identity]
    return gone
