"""Rules of `auto_start` that would record nothing, found before a room opens."""

import re
from collections.abc import Iterator

from livekit.protocol.models import ParticipantInfo, Room, TrackInfo, TrackType

from openegress.app.worker_config import context_maker
from openegress.config.finding import Finding, Level
from openegress.config.settings import Settings
from openegress.core.errors import EgressError
from openegress.request import auto_start
from openegress.request.auto_start import AutoStart, AutoStartRule, rule_of
from openegress.request.context import Context
from openegress.request.validate import plan_of

_NAMELESS = re.compile(r"\[[^\]]*\]|[*?]")
"""What a pattern leaves open."""


def auto_start_faults(settings: Settings) -> Iterator[Finding]:
    """What the worker would say to the requests of each rule. Workers behind a Redis may have another
    configuration, so that what is wrong by this one is a warning then."""
    level = Level.WARNING if settings.redis.configured else Level.ERROR
    context = context_maker(settings)()
    for number, block in enumerate(settings.auto_start):
        rule = rule_of(block.rooms, block.egress)
        for key, start in _starts(rule):
            path = f"auto_start[{number}].egress.{key}"
            yield from (Finding(found, path, text) for found, text in _of_start(start, context, level))


def _starts(rule: AutoStartRule) -> Iterator[tuple[str, AutoStart]]:
    """(the key of its rule, what it starts) in a room that might be one of the rule's."""
    room = Room(sid="RM_1", name=_NAMELESS.sub("x", rule.rooms[0]))
    track = TrackInfo(sid="TR_1", type=TrackType.AUDIO)
    anywhere = [AutoStartRule(("*",), rule.egress)]
    for start in auto_start.of_room(anywhere, room):
        yield "room", start
    for start in auto_start.of_track(anywhere, room, ParticipantInfo(identity="x"), track):
        yield "tracks" if start.subject == track.sid else "participant", start


def _of_start(start: AutoStart, context: Context, level: Level) -> Iterator[tuple[Level, str]]:
    try:
        plan = plan_of(start.request(), context)
    except EgressError as error:
        yield level, error.message
    else:
        yield from ((Level.WARNING, notice) for notice in plan.notices)
