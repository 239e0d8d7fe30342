"""Finds the output of a plan that sidecars and stems lie beside. Pure."""

from openegress.core.plan import FileOutput, Plan, SegmentOutput


def first_stored(plan: Plan) -> tuple[int, FileOutput | SegmentOutput] | None:
    """The output that has sidecars and stems beside it, and its number. None: no output is stored as a file
    or as segments."""
    stored = [(n, o) for n, o in enumerate(plan.outputs) if isinstance(o, FileOutput | SegmentOutput)]
    return stored[0] if stored else None


def with_sidecars(plan: Plan) -> tuple[int, FileOutput | SegmentOutput] | None:
    """Like first_stored(); None: there are no sidecars."""
    return first_stored(plan) if plan.sidecars else None
