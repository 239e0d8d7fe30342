"""The plan for recording a room whose picture is composed afterwards. Pure."""

import msgspec

from openegress.core.codecs import Container
from openegress.core.looks import Looks, PictureFiles
from openegress.core.passthrough import Passthrough
from openegress.core.plan import FileOutput, LayoutSource, Plan, TracksSource
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan

FOLDER = "tracks"
"""The folder of the tracks, in the egress' folder in the spool."""
MAX_TRIES = 3
"""Attempts to compose a recording. What kills the process once may kill it every time; after these, the
tracks are stored as they are."""
TRACKS = f"tracks.{Container.MKV.value}"
"""The file of the tracks in that folder, once the recording is complete."""


def recording_of(plan: Plan, spool: str) -> Plan:
    """The plan that records the tracks of `plan`, which has Render.DEFERRED, into its folder below `spool`.
    Events of the room are recorded too, as composing needs them."""
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
