"""A recording that another handler continued: where its timeline resumes, and what is missing. Pure."""

import msgspec


class Restart(msgspec.Struct, frozen=True):
    """The gap is not on the timeline, as with a pause that is cut."""

    lost_at_ns: int
    """Unix ns at which the earlier recording ends."""
    resumed_at_ns: int
    """Unix ns at which the next one begins."""
    at_ns: int
    """On the timeline."""

    @property
    def gap_ns(self) -> int:
        return max(0, self.resumed_at_ns - self.lost_at_ns)


def gaps_before_ns(restarts: tuple[Restart, ...], at_ns: int) -> int:
    """What is missing between the beginning and `at_ns` of the timeline."""
    return missing_ns(tuple(each for each in restarts if each.at_ns <= at_ns))


def missing_ns(restarts: tuple[Restart, ...]) -> int:
    """The sum for all of them."""
    return sum(each.gap_ns for each in restarts)
