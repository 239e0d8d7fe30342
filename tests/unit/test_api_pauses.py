"""Which egresses the API pauses, and what their records say meanwhile."""

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodingOptions,
    FileInfo,
    ImagesInfo,
    SegmentsInfo,
    StreamInfo,
)

from openegress.api import pauses
from openegress.core import info as transitions
from openegress.core.errors import Code, EgressError
from openegress.core.events import Ending, EndReason, Paused, Resumed


def room() -> EgressInfo:
    info = EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_ACTIVE, file_results=[FileInfo()])
    info.room_composite.room_name = "room"
    return info


def test_a_room_in_a_built_in_layout_is_paused() -> None:
    info = room()
    pauses.refuse_unsuited(info, template_base="")
    info.segment_results.append(SegmentsInfo())
    info.image_results.append(ImagesInfo())
    info.stream_results.append(StreamInfo())
    pauses.refuse_unsuited(info, template_base="")


def test_sound_alone_is_paused_where_it_is_mixed() -> None:
    info = room()
    info.room_composite.audio_only = True
    pauses.refuse_unsuited(info, template_base="https://own")
    info.egress.media.audio.capture_all = True
    pauses.refuse_unsuited(info, template_base="")


def test_participants_and_tracks_are_paused_encoded_or_not() -> None:
    info = room()
    info.participant.advanced.CopyFrom(EncodingOptions(width=640))
    pauses.refuse_unsuited(info, template_base="")
    info.participant.ClearField("advanced")
    pauses.refuse_unsuited(info, template_base="")
    info.track.track_id = "TR_1"
    pauses.refuse_unsuited(info, template_base="")


def test_pages_are_paused() -> None:
    info = room()
    pauses.refuse_unsuited(info, template_base="https://own")
    info.room_composite.custom_base_url = "https://example.com"
    pauses.refuse_unsuited(info, template_base="")
    info.web.url = "https://example.com"
    pauses.refuse_unsuited(info, template_base="")
    info.web.audio_only = True
    pauses.refuse_unsuited(info, template_base="")


def test_a_recording_of_all_tracks_is_refused() -> None:
    info = room()
    info.room_composite.layout = "tracks"
    with pytest.raises(EgressError) as refused:
        pauses.refuse_unsuited(info, template_base="")
    assert refused.value.code is Code.UNIMPLEMENTED


def test_one_that_does_not_record_now_is_refused() -> None:
    info = room()
    info.status = EgressStatus.EGRESS_STARTING
    with pytest.raises(EgressError) as refused:
        pauses.refuse_unsuited(info, template_base="")
    assert refused.value.code is Code.FAILED_PRECONDITION


def test_details_say_paused_while_it_is_and_keep_what_else_they_say() -> None:
    info = room()
    info.details = "a notice"
    paused = transitions.apply(info, Paused(1), 1)
    assert (paused.status, paused.details) == (EgressStatus.EGRESS_ACTIVE, "a notice; Paused")
    assert transitions.is_paused(paused)
    assert transitions.apply(paused, Resumed(2), 2).details == "a notice"
    ended = transitions.apply(paused, Ending(EndReason.API), 3)
    assert ended.details == "End reason: StopEgress API; a notice"
