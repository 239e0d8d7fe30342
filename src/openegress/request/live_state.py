"""Extracts the changes requested during a recording from its plan, and applies them to a plan. Pure."""

import contextlib

import msgspec

from openegress.core.errors import EgressError
from openegress.core.live_state import LiveState
from openegress.core.plan import LayoutSource, Plan
from openegress.request import layouts, look_options, orders


def live_state(plan: Plan, at_ns: int, recorded_ns: int, *, is_counting: bool) -> LiveState:
    """The state of a recording whose `plan` already contains the requested changes."""
    layout = plan.source.layout if isinstance(plan.source, LayoutSource) else ""
    return LiveState(at_ns, recorded_ns, is_counting, plan.end_rules, plan.looks, layout)


def as_asked(plan: Plan, live: LiveState) -> Plan:
    """`plan`, the original one, with the changes of live_state()."""
    source = plan.source
    if isinstance(source, LayoutSource):
        source = msgspec.structs.replace(source, layout=live.layout)
    return msgspec.structs.replace(plan, source=source, end_rules=live.end_rules, looks=live.looks)


def as_shown(plan: Plan, metadata: str) -> Plan:
    """Applies the metadata of the recorder's participant as LayoutPolicy does. Only a room in a layout has
    more to change than looks."""
    asked = orders.layout_in(metadata)
    if asked is None:
        return plan
    change, _ = orders.in_metadata(asked)
    looks = plan.looks
    with contextlib.suppress(EgressError):
        look_options.refuse_unknown_pictures(change.looks, plan.pictures)
        looks = look_options.changed(looks, change.looks)
    source = plan.source
    if isinstance(source, LayoutSource) and change.layout is not None:
        # The name may be any text, and the plan is passed on.
        layout = change.layout and layouts.named(change.layout, source.specs)
        source = msgspec.structs.replace(source, layout=layout)
    return msgspec.structs.replace(plan, source=source, looks=looks)
