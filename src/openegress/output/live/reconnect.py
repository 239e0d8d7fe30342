"""The state of a live connection: connected, lost, retried, given up. Pure; times are monotonic s."""

from dataclasses import dataclass, replace
from enum import Enum, auto

from openegress.core.backoff import Backoff
from openegress.core.events import StreamStatus, StreamUpdate


class LinkPhase(Enum):
    CONNECTING = auto()
    ACTIVE = auto()
    WAITING = auto()
    """The link waits for the next attempt."""
    FAILED = auto()
    FINISHED = auto()


_BACKOFF = Backoff(first_s=0.5, ceiling_s=8.0, least=1.0)
"""Back-off without jitter."""


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    budget_s: float = 90.0
    """How long a connection that once worked may be without progress before it is given up."""
    backoff: Backoff = _BACKOFF
    stable_s: float = 1.0
    """How long a connection must take media, and again half as long later, to count as working; one that
    broke sooner was a refusal. Once is not enough: after a pause of the media, a write into a connection that
    the server has closed meanwhile still succeeds."""


@dataclass(frozen=True, slots=True)
class Link:
    phase: LinkPhase = LinkPhase.CONNECTING
    taking_since_s: float | None = None
    """Time when this connection first took media. A server that refuses it does so later: the first picture
    may come long after the connection."""
    held_since_s: float | None = None
    """Time when it took media at least `stable_s` after that."""
    works: bool = False
    """Whether the link has been stable once, so that a loss is retried."""
    lost_at_s: float | None = None
    """Time since which nothing got through; None: media does."""
    attempt: int = 0
    """Number of failures since the link last worked."""
    retries: int = 0
    retry_at_s: float = 0.0
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the link is not retried any more."""
        return self.phase in (LinkPhase.FAILED, LinkPhase.FINISHED)


FRESH = Link()


def left(told: StreamUpdate, now_s: float) -> Link:
    """Continues from a process that died; `told` is its last update. A link that was connected is dialled
    again."""
    match told.status:
        case StreamStatus.ACTIVE:
            return Link(works=True, lost_at_s=now_s, retries=told.retries)
        case StreamStatus.FINISHED:
            phase = LinkPhase.FINISHED
        case StreamStatus.FAILED:
            phase = LinkPhase.FAILED
    return Link(phase=phase, error=told.error, retries=told.retries)


def connected(link: Link) -> Link:
    if link.phase is not LinkPhase.CONNECTING:
        return link
    return replace(link, phase=LinkPhase.ACTIVE, taking_since_s=None, held_since_s=None)


def progressed(link: Link, now_s: float, policy: ReconnectPolicy) -> Link:
    """Notes that the connection took media."""
    if link.phase is not LinkPhase.ACTIVE or (link.works and link.lost_at_s is None):
        return link
    since_s = now_s if link.taking_since_s is None else link.taking_since_s
    link = replace(link, taking_since_s=since_s)
    if now_s - since_s < policy.stable_s:
        return link
    held_since_s = now_s if link.held_since_s is None else link.held_since_s
    link = replace(link, held_since_s=held_since_s)
    if now_s - held_since_s < policy.stable_s / 2:
        return link
    return replace(link, works=True, lost_at_s=None, attempt=0, error="")


def broke(link: Link, now_s: float, error: str, policy: ReconnectPolicy) -> Link:
    """Notes that the connection could not be made, or was lost."""
    if link.phase not in (LinkPhase.CONNECTING, LinkPhase.ACTIVE):
        return link
    if not link.works:
        return replace(link, phase=LinkPhase.FAILED, error=error)
    lost_at_s = now_s if link.lost_at_s is None else link.lost_at_s
    delay_s = policy.backoff.delay_s(link.attempt + 1)
    if now_s + delay_s - lost_at_s > policy.budget_s:
        return replace(link, phase=LinkPhase.FAILED, lost_at_s=lost_at_s, error=error)
    return replace(
        link,
        phase=LinkPhase.WAITING,
        lost_at_s=lost_at_s,
        attempt=link.attempt + 1,
        retry_at_s=now_s + delay_s,
        error=error,
    )


def retried(link: Link) -> Link:
    """Ends the wait for the next attempt."""
    if link.phase is not LinkPhase.WAITING:
        return link
    return replace(link, phase=LinkPhase.CONNECTING, retries=link.retries + 1)


def stopped(link: Link) -> Link:
    """Stops a link that is not wanted any more. A failed one stays failed; one that ends while it is
    disconnected keeps the error that disconnected it."""
    if link.phase is LinkPhase.FAILED:
        return link
    is_back = link.phase is LinkPhase.ACTIVE and link.taking_since_s is not None
    return replace(link, phase=LinkPhase.FINISHED, error="" if is_back else link.error)
