"""Makes the input for a plan: which source, and whether to encode."""

from collections.abc import Callable

import msgspec

from openegress.core.codecs import AudioCodec
from openegress.core.errors import EgressError
from openegress.core.ipc import HandlerSettings
from openegress.core.passthrough import Passthrough
from openegress.core.plan import (
    AudioEncoding,
    LayoutSource,
    MediaSource,
    Plan,
    TemplateSource,
    TracksSource,
    WebSource,
)
from openegress.core.room_keys import NO_KEYS, KeySupply
from openegress.handler.media_input import FrameInput, MediaInput, PacketInput
from openegress.handler.warm import BrowserShape, WarmBrowser
from openegress.media.overlays import Overlays
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.open import is_whole_room, kept_kinds, open_source
from openegress.source.room.passthrough_source import RoomPacketSource
from openegress.source.room.sound_beside_page import SoundBesidePage
from openegress.source.room.tracks_source import RoomTracksSource
from openegress.source.web.page_room import PageRoom
from openegress.source.web.source import PageSettings, WebPageSource, template_url

_ROOM_HOLD_S = 1.0
"""How long the encoder may hold a room back. The room's media stays encoded until it is decoded, so a delay
does no harm as long as the backlog does not grow."""

_INSTEAD_OF_PCM = AudioEncoding(AudioCodec.OPUS, kbps=64, sample_rate=48_000)
"""The encoding of a G.711 track that its container does not support."""

OnError = Callable[[EgressError], None]


async def open_input(
    plan: Plan,
    settings: HandlerSettings,
    warm: WarmBrowser | None,
    on_error: OnError,
    room_keys: KeySupply = NO_KEYS,
) -> MediaInput:
    """Opens the input for a plan. Any thread may call `on_error`. Raises EgressError if the browser does not
    start."""
    match plan.source:
        case WebSource() | TemplateSource():
            return await _page_input(plan, plan.source, settings, warm, on_error, room_keys)
        case MediaSource() | LayoutSource() | TracksSource():
            return await _room_input(plan, settings, on_error, room_keys)


async def _room_input(
    plan: Plan, settings: HandlerSettings, on_error: OnError, room_keys: KeySupply
) -> MediaInput:
    source = await open_source(plan, memory_bytes=settings.room_memory_bytes, room_keys=room_keys)
    if isinstance(source, RoomPacketSource | RoomTracksSource):
        return PacketInput(source)
    if plan.passthrough is Passthrough.ALWAYS and plan.audio is None:
        plan = msgspec.structs.replace(plan, audio=_INSTEAD_OF_PCM)
    name_values = dict if is_whole_room(plan.source) else source.name_values
    kinds = kept_kinds(plan)
    beside = source.keep_tracks(kinds) if kinds else None
    return FrameInput(
        source, plan, on_error, name_values=name_values, hold_s=_ROOM_HOLD_S, room=source, beside=beside
    )


def _trusted(source: WebSource | TemplateSource) -> tuple[str, ...]:
    """URLs of the room and of the operator's own page, which may be in networks that other pages must not
    reach."""
    if not isinstance(source, TemplateSource):
        return ()
    return (source.base_url, source.ws_url) if source.is_trusted else (source.ws_url,)


async def _page_input(
    plan: Plan,
    source: WebSource | TemplateSource,
    settings: HandlerSettings,
    warm: WarmBrowser | None,
    on_error: OnError,
    room_keys: KeySupply,
) -> MediaInput:
    shape = BrowserShape.of(plan)
    if shape is None:
        raise TypeError(f"{type(source).__name__} needs no browser")
    browser = await (warm or WarmBrowser(settings, shape)).take(shape)
    is_template = isinstance(source, TemplateSource)
    page_settings = PageSettings(
        template_url(source) if isinstance(source, TemplateSource) else source.url,
        framerate=shape.framerate,
        audio=shape.audio,
        video=shape.video,
        await_start_signal=is_template or (isinstance(source, WebSource) and source.await_start_signal),
        page_load_timeout_s=settings.page_load_timeout_s,
        start_signal_timeout_s=settings.start_signal_timeout_s,
        page="template" if is_template else "web",
        sample_rate=shape.sample_rate,
        trusted=_trusted(source),
        own=(source.base_url,) if isinstance(source, TemplateSource) else (),
        memory_bytes=settings.browser.memory_bytes,
        room=PageRoom(source.ws_url, source.token, plan.egress_id)
        if isinstance(source, TemplateSource)
        else None,
        drops_sound=isinstance(source, TemplateSource) and source.sound is not None,
    )
    page = WebPageSource(browser, page_settings)
    if not isinstance(source, TemplateSource) or source.sound is None:
        return FrameInput(page, plan, on_error, overlays=_overlays(plan))
    try:
        of_sound = msgspec.structs.replace(plan, source=source.sound, video=None)
        sound = await open_source(of_sound, room_keys=room_keys)
    except BaseException:
        await page.close()
        raise
    assert isinstance(sound, RoomFrameSource)  # the plan passes nothing through
    return FrameInput(SoundBesidePage(page, sound), plan, on_error, overlays=_overlays(plan))


def _overlays(plan: Plan) -> Overlays | None:
    """The overlays of a page, even if there is nothing to draw yet."""
    if plan.video is None:
        return None
    return Overlays(plan.video.width, plan.video.height, plan.looks, plan.pictures)
