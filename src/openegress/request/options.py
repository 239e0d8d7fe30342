"""Reads options of a recording, for which LiveKit's requests have no fields. Pure.

There is one schema for all ways in which they arrive. Layers are merged key by key, and later ones win: the
configuration, the metadata of the room, the query of a layout, the header X-Openegress-Options, the key
"openegress" of a JSON body.
"""

import json
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, unquote_plus

import msgspec
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from openegress.core import foreign_json
from openegress.core.codecs import AskedCodec, AskedSpeed
from openegress.core.decode import Decoder, near
from openegress.core.errors import EgressError, invalid
from openegress.core.loudness_target import LoudnessTarget
from openegress.core.pause_mode import PauseMode
from openegress.core.render import Render
from openegress.core.room_patterns import fits
from openegress.core.selectors import Selectors
from openegress.core.sidecars import Sidecars
from openegress.core.stems import Stems
from openegress.core.text import shown
from openegress.core.values import LengthOrSize, Seconds, SizeBytes
from openegress.request.look_options import LOOK_KEYS, LookOptions
from openegress.request.unknown import OPTIONS, length_delimited

HEADER = "X-Openegress-Options"
BODY_KEY = "openegress"
MAX_CHARS = 4096
"""Limit for the options of a header, a query or a body: some twenty short values, one of them a line of
text."""

MAX_LAYOUT_CHARS = 8192
"""Limit for a layout with its query, which becomes a part of a page's URL: servers take no more. Parsing a
quarter of a megabyte would block others."""

MAX_METADATA_CHARS = 65_536
"""Limit for a room's metadata: LiveKit takes 64,000 bytes. Longer metadata has no options."""

_MAX_OTHERS = 20
"""Limit for the keys of a page's own query that are compared with ours."""
_UNCONVERTED_TYPES = (str, dict, list, type(None))
"""Types that are not converted to text. The configuration has all values as text; JSON has numbers and
booleans too."""

M = TypeVar("M", bound=Message)


class Options(LookOptions, frozen=True, forbid_unknown_fields=True):
    """The options of one layer. None: the layer leaves it open. 0 or an empty text: none, whatever an earlier
    layer says."""

    max_duration: Seconds | None = None
    """Limit for the recorded time: pauses and the time before the first frame do not count."""
    max_size: SizeBytes | None = None
    """Limit for a file, or for all segments of a playlist together; each output stays below it."""
    stop_when_empty: Seconds | None = None
    """How long the room may be without anybody but recorders and agents."""
    stop_when_idle: Seconds | None = None
    """How long those who count for stop_when_empty may publish nothing but muted tracks."""
    stop_when_silent: Seconds | None = None
    """How long the recording may be silent."""
    split_every: LengthOrSize | None = None
    """The length or size at which a file is followed by another one."""
    on_pause: PauseMode | None = None
    """What happens to the time of a pause."""
    start_timeout: Seconds | None = None
    """Limit for the time from the start of the egress to its first frame."""
    record_only: Selectors | None = None
    """Selects who and what of the room is recorded."""
    leave_out: Selectors | None = None
    """Selects who and what of the room is not recorded, whatever record_only says."""
    show_left_out: bool | None = None
    """Whether participants who are left out have a tile with their name."""
    opt_out: bool | None = None
    """Whether participants may exclude themselves; false forbids it."""
    sidecars: Sidecars | None = None
    """The data about the meeting that is kept beside its recording."""
    data_topics: str | None = None
    """Patterns of topics for the sidecar data, separated by commas, as in fnmatch. Empty: all topics."""
    tracks_file: str | None = None
    """Path of a file with the room's tracks as they are, beside a composite."""
    stems: Stems | None = None
    """Each participant's voice in a file of its own, beside the recording of a room."""
    loudness: LoudnessTarget | None = None
    """The loudness of encoded sound, and of stems."""
    storyboard: Seconds | None = None
    """How often a thumbnail of the recording is taken, which players show over their timeline."""
    encoder_speed: AskedSpeed | None = None
    """The speed of the encoder of pictures."""
    video_codec: AskedCodec | None = None
    """The codec of encoded pictures."""
    variable_frame_rate: bool | None = None
    """Whether a picture that does not change is written only once a second in files and segments."""
    render: Render | None = None
    """When the picture of a room is composed."""
    resume: bool | None = None
    """Whether the same egress continues when the process that records it dies, or its whole service."""


class RoomOptions(Options, frozen=True, forbid_unknown_fields=True):
    """A layer for rooms with matching names."""

    rooms: tuple[str, ...] = ()
    """Patterns of room names, see room_patterns."""


class OptionDefaults(Options, frozen=True, forbid_unknown_fields=True):
    """The configuration's layers."""

    by_room: tuple[RoomOptions, ...] = ()
    """Layers for rooms; later ones win."""

    def of_room(self, room_name: str) -> Options:
        """The options for a room; `room_name` is "" without a room."""
        return merged(self, *(each for each in self.by_room if fits(room_name, each.rooms)))


KEYS = Options.__struct_fields__
SELECTING = frozenset({"record_only", "leave_out"})
"""Options that protect people: if they were ignored, somebody would be recorded who must not be."""


def merged(*layers: Options) -> Options:
    """Merges layers key by key: the last layer with a value wins."""
    values = {key: value for layer in layers for key in KEYS if (value := getattr(layer, key)) is not None}
    return Options(**values)


# --- reading


def of_query(text: str, where: str) -> Options:
    """Reads `text`, which is key=value&key=value, escaped as in a URL. Raises EgressError, whose text begins
    with `where`, for an unknown option or an invalid value."""
    if len(text) > MAX_CHARS:
        raise invalid(f"{where}: options longer than {MAX_CHARS} characters")
    values: dict[str, str] = {}
    for pair in filter(None, text.split("&")):
        key, mark, value = (unquote_plus(part).strip() for part in pair.partition("="))
        if not mark:
            raise invalid(f'{where}: "{shown(key)}" has no value; write {shown(key)}=...')
        if key in values:
            raise invalid(f"{where}: {shown(key)} is there twice")
        if key in SELECTING and "+" in pair:
            # If a plus became a space, somebody could be recorded who must not be.
            raise invalid(f"{where}: {key} has a +; write %2B for a plus and %20 for a space")
        values[key] = value
    return Decoder().struct(values, Options, where)


def of_json(value: object, where: str) -> Options:
    """Reads decoded JSON: an object of text, numbers, and null for what is left open. Raises like
    of_query()."""
    if not isinstance(value, dict):
        raise invalid(f"{where}: {shown(json.dumps(value), 64)} is not an object of options")
    values = {
        key: each if isinstance(each, _UNCONVERTED_TYPES) else json.dumps(each) for key, each in value.items()
    }
    return Decoder().struct(values, Options, where)


ROOM_KEY = "egress"
"""Key of the options in a room's metadata, if that is JSON."""
_MAX_NOTICES = 5


def of_room_metadata(metadata: str) -> tuple[Options, tuple[str, ...]]:
    """Returns the options in the room's metadata, and a sentence for each key that is ignored. The author of
    the metadata did not ask for the recording, and gets no answer."""
    if len(metadata) > MAX_METADATA_CHARS:
        return Options(), ()
    try:
        value = foreign_json.loads(metadata)
    except ValueError:
        return Options(), ()  # free text for its user
    asked = value.get(ROOM_KEY) if isinstance(value, dict) else None
    if asked is None:
        return Options(), ()
    where = f"room metadata {ROOM_KEY}"
    if not isinstance(asked, dict):
        return Options(), (f"{where} is not an object of options (ignored)",)
    found, notices = Options(), []
    for key, each in asked.items():
        try:
            found = merged(found, of_json({key: each}, where))
        except EgressError as error:
            notices.append(f"{shown(error.message, 200)} (ignored)")
    return found, tuple(notices[:_MAX_NOTICES])


# --- in the name of a layout


@dataclass(frozen=True, slots=True)
class LayoutQuery:
    """The name of a layout, split into its parts."""

    name: str
    """The name without our part of its query."""
    query: str
    """Our part of its query, or everything after the "?" of the whole name."""
    near_misses: tuple[str, ...] = ()
    """A sentence for each key that goes to a page and resembles one of ours."""


def layout_of_page(layout: str) -> LayoutQuery:
    """Splits the layout of the caller's or the operator's page, which gets the part of the query that is not
    ours, unchanged. Raises EgressError if the layout is too long."""
    _refuse_long(layout)
    name, mark, query = layout.partition("?")
    pairs = query.split("&")
    ours = [pair for pair in pairs if _key(pair) in KEYS]
    others = [pair for pair in pairs if _key(pair) not in KEYS]
    misses = tuple(
        f"{shown(_key(pair), 64)} of the layout's query is left to the page{hint}"
        for pair in others[:_MAX_OTHERS]
        if (hint := near(_key(pair), KEYS))
    )
    if not ours:
        return LayoutQuery(layout, "", misses)
    return LayoutQuery(f"{name}{mark}{'&'.join(others)}" if others else name, "&".join(ours), misses)


def layout_of_ours(layout: str) -> LayoutQuery:
    """Splits a layout that is drawn here, whose query contains only options. Raises like layout_of_page()."""
    _refuse_long(layout)
    name, _, query = layout.partition("?")
    return LayoutQuery(name, query)


def _refuse_long(layout: str) -> None:
    if len(layout) > MAX_LAYOUT_CHARS:
        raise invalid(f"layout: {len(layout)} characters; at most {MAX_LAYOUT_CHARS} are taken")


def _key(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0]).strip()


# --- on their way from the API to a worker


def carry(message: M, options: Options) -> M:
    """Adds options to `message` in a field that no client sets, and that binary requests preserve. Options
    that it carries already come later, and win."""
    every = merged(options, carried(message))
    if text := text_of(every):
        message.MergeFromString(length_delimited(OPTIONS, text.encode()))
    return message


def carried(message: Message) -> Options:
    """All options that carry() added. Raises EgressError for those that this release does not know."""
    fields = UnknownFieldSet(message)
    return merged(
        *(
            of_query(field.data.decode(errors="replace"), "options")
            for field in (fields[number] for number in range(len(fields)))
            if field.field_number == OPTIONS and isinstance(field.data, bytes)
        )
    )


def apart(asked: Options) -> tuple[LookOptions, Options]:
    """Splits options into those of the look and all others."""
    looks = {key: getattr(asked, key) for key in LOOK_KEYS}
    return LookOptions(**looks), msgspec.structs.replace(asked, **dict.fromkeys(LOOK_KEYS))


def together(looks: LookOptions, others: Options) -> Options:
    """The inverse of apart()."""
    return msgspec.structs.replace(others, **{key: getattr(looks, key) for key in LOOK_KEYS})


def text_of(asked: LookOptions) -> str:
    """Writes options in the form that of_query() reads."""
    keys = asked.__struct_fields__
    pairs = (f"{key}={_text(value)}" for key in keys if (value := getattr(asked, key)) is not None)
    return "&".join(pairs)


def _text(value: object) -> str:
    match value:
        case LengthOrSize(length, size):
            return _text(Seconds(length)) if length else str(size)
        case Seconds():
            return f"{value:.9f}s"
        case bool():
            return "true" if value else "false"
        case _:
            return quote(str(value))
