"""A recording that another handler went on with: where its timeline goes on, and what is missing. Pure."""

import msgspec


class Restart(msgspec.Struct, frozen=True):
    """The gap is no more on the timeline than a pause that is cut."""

    lost_at_ns: int
    """Unix ns: what was recorded before ends here."""
    resumed_at_ns: int
    """Unix ns: what follows begins here."""
    at_ns: int
    """On the timeline."""

    @property
    def gap_ns(self) -> int:
        return max(0, self.resumed_at_ns - self.lost_at_ns)


def gaps_before_ns(restarts: tuple[Restart, ...], at_ns: int) -> int:
    """What is missing between the beginning and `at_ns` of the timeline."""
    return missing_ns(tuple(each for each in restarts if each.at_ns <= at_ns))


def missing_ns(restarts: tuple[Restart, ...]) -> int:
    """Of all of them together."""
    return sum(each.gap_ns for each in restarts)
