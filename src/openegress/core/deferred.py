"""What is recorded of a room whose picture is composed after it. Pure."""

import msgspec

from openegress.core.codecs import Container
from openegress.core.looks import Looks, PictureFiles
from openegress.core.passthrough import Passthrough
from openegress.core.plan import FileOutput, LayoutSource, LocalStorage, Plan, StoragePlan, TracksSource
from openegress.core.sidecars import Sidecar

FOLDER = "tracks"
"""In the folder of the egress in the spool."""
MOST_TRIES = 3
"""To compose it: a process that dies of it would do so for ever. The tracks are then stored as they are."""
TRACKS = f"tracks.{Container.MKV.value}"
"""In that folder, once all of it is recorded."""


def recording_of(plan: Plan, spool: str) -> Plan:
    """Of a plan with Render.DEFERRED: its tracks as they are, into its folder below `spool`. What happens in
    the room is told too, as composing needs it."""
    source = plan.source
    assert isinstance(source, LayoutSource)
    storage = StoragePlan(LocalStorage(f"{spool}/{plan.egress_id}/{FOLDER}"), check=False)
    return msgspec.structs.replace(
        plan,
        source=TracksSource(
            source.room_name,
            source.ws_url,
            source.token,
            audio=bool(source.audio),
            insecure=source.insecure,
        ),
        outputs=(FileOutput(TRACKS, Container.MKV, storage, manifest=False),),
        video=None,
        audio=None,
        passthrough=Passthrough.ALWAYS,
        looks=Looks(),
        pictures=PictureFiles(),
        stems=None,
        loudness_lufs=0.0,
        sidecars=tuple(dict.fromkeys((Sidecar.EVENTS, *plan.sidecars))),
    )
