"""What a change of layout does to a record."""

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    MediaSource,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    TemplateSource,
    WebEgressRequest,
    WebSource,
)
from livekit.protocol.egress import StartEgressRequest as V2

from openegress.api import layouts
from openegress.request import orders
from openegress.request.orders import LayoutOrder
from openegress.store import Change
from openegress.store.record import judge


def test_a_layout_does_not_make_the_workers_next_update_look_old() -> None:
    stored = EgressInfo(status=EgressStatus.EGRESS_ACTIVE, updated_at=5)
    stored.room_composite.CopyFrom(RoomCompositeEgressRequest(layout="grid"))
    changed = layouts.with_layout(stored, LayoutOrder(None, "speaker"))
    assert (changed.room_composite.layout, changed.updated_at) == ("speaker", 6)
    assert judge(stored, changed) is Change.UPDATED
    # On the worker's clock, which may be far behind ours.
    assert judge(changed, EgressInfo(status=EgressStatus.EGRESS_ACTIVE, updated_at=100)) is Change.UPDATED


LAID_OUT = EgressInfo(room_composite=RoomCompositeEgressRequest(layout="mine"))
SOUND = EgressInfo(room_composite=RoomCompositeEgressRequest(audio_only=True))
TRACKS = EgressInfo(room_composite=RoomCompositeEgressRequest(layout="tracks?max_duration=1h"))
CUSTOM = EgressInfo(room_composite=RoomCompositeEgressRequest(custom_base_url="https://t"))
MEDIA = EgressInfo(egress=V2(media=MediaSource(video_track_id="TR_V")))
TEMPLATE = EgressInfo(egress=V2(template=TemplateSource()))


@pytest.mark.parametrize(
    ("info", "layout", "own", "told", "notice"),
    [
        (LAID_OUT, "speaker", False, "speaker", ""),
        (LAID_OUT, "mine-2", True, "mine-2", ""),
        (CUSTOM, "mine-2", False, "mine-2", ""),
        (LAID_OUT, "mine-2", False, "grid", "layout 'mine-2' is unknown and taken for grid"),
        (LAID_OUT, "mosaic-light", False, "grid-light", "taken for grid-light"),
        (LAID_OUT, "speaker-left-light", False, "speaker-light", "taken for speaker-light"),
        (LAID_OUT, "single-speaker-2", False, "single-speaker", "taken for single-speaker"),
        (LAID_OUT, "", False, "grid", "taken for grid"),
        (TRACKS, "grid", False, None, "a recording of tracks as they are"),
        (TRACKS, "grid", True, "grid", ""),
        (LAID_OUT, "tracks", False, None, "cannot be applied to a running egress"),
        (LAID_OUT, "tracks", True, "tracks", ""),
        (SOUND, "grid", True, None, "a recording of sound alone"),
        (LAID_OUT, "tracks?text=x", False, None, "cannot be applied to a running egress"),
        (LAID_OUT, "speaker?text=Part 2&logo=acme", False, "speaker?logo=acme&text=Part%202", ""),
        (LAID_OUT, "?text=", False, "?text=", ""),
        (LAID_OUT, "lesson?names=true", False, "lesson?names=true", ""),
        (LAID_OUT, "mosaic?text=x", False, "grid?text=x", "taken for grid"),
        (CUSTOM, "mine-2?theme=dark", False, "mine-2?theme=dark", ""),
        (EgressInfo(web=WebEgressRequest(url="http://e")), "grid", False, None, "this is a web page"),
        (EgressInfo(egress=V2(web=WebSource(url="http://e"))), "grid", False, None, "this is a web page"),
        (MEDIA, "grid", False, None, "this is a choice of media"),
        (MEDIA, "", True, None, "this is a choice of media"),
        (MEDIA, "speaker?names=true", False, None, "this is a choice of media"),
        (TEMPLATE, "speaker", False, "speaker", ""),
        (TEMPLATE, "?text=x", False, "?text=x", ""),
        (TEMPLATE, "speaker", True, "speaker", ""),
        (EgressInfo(egress=V2(template=TemplateSource(audio_only=True))), "grid", False, None, "sound alone"),
        (EgressInfo(), "grid", False, None, "this is a request"),
    ],
)
def test_what_a_change_comes_to(
    info: EgressInfo, layout: str, own: bool, told: str | None, notice: str
) -> None:
    asked = orders.in_layout(layout, of_page=layouts.is_of_page(info, own_template=own))
    ask = layouts.layout_change(info, asked, ("lesson",), own_template=own)
    assert ask.layout == told
    assert notice in ask.notice and bool(ask.notice) is bool(notice)


def test_a_query_alone_keeps_the_layout_of_the_record() -> None:
    changed = LAID_OUT
    for layout in ("speaker?text=a", "?text=b"):
        changed = layouts.with_layout(changed, orders.in_layout(layout))
    assert changed.room_composite.layout == "speaker?text=b"


def test_a_template_without_a_layout_gets_one() -> None:
    changed = layouts.with_layout(TEMPLATE, orders.in_layout("?text=a"))
    assert changed.egress.template.layout == "?text=a"
    assert layouts.with_layout(changed, orders.in_layout("speaker")).egress.template.layout == "speaker"


def test_a_notice_is_for_the_caller_alone() -> None:
    assert layouts.noted(LAID_OUT, "") is LAID_OUT
    assert layouts.noted(LAID_OUT, "a notice").details == "a notice"
    assert LAID_OUT.details == ""


WEB = EgressInfo(web=WebEgressRequest(url="https://example.com/"))
PERSON = EgressInfo(participant=ParticipantEgressRequest(identity="ann"))


@pytest.mark.parametrize(
    ("info", "own", "is_laid_out"),
    [
        (LAID_OUT, False, True),
        (LAID_OUT, True, False),
        (CUSTOM, False, False),
        (WEB, False, False),
        (TRACKS, False, False),
        (SOUND, False, False),
        (PERSON, False, False),
        (MEDIA, False, False),
        (TEMPLATE, False, True),
        (TEMPLATE, True, False),
    ],
)
def test_what_has_no_layout_of_ours_is_ordered_how_to_look(
    info: EgressInfo, own: bool, is_laid_out: bool
) -> None:
    assert layouts.is_laid_out(info, own_template=own) is is_laid_out
