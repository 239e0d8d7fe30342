"""Names that are too long for where they go: cut between characters, told apart, or refused."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import DirectFileOutput, EncodedFileOutput, ImageOutput, SegmentedFileOutput
from msgspec.structs import replace

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.graphemes import is_boundary
from openegress.core.plan import Split
from openegress.core.sidecars import ENDINGS
from openegress.core.stems import StemFormat, ending
from openegress.core.storages import AliOSSStorage, Backend, LocalStorage, S3Storage, StoragePlan
from openegress.request import naming, output_names, outputs
from openegress.request.name_length import cut
from openegress.request.outputs import Naming
from openegress.request.part_names import stored_name
from openegress.request.requested import RequestedFile, RequestedImages, RequestedSegments

LOCAL = LocalStorage("/out")
S3 = S3Storage(bucket="b")


def names(room: str, backend: Backend = LOCAL, **more: str) -> Naming:
    values = {"time": "2025-02-14T095704", "room_name": room, **more}
    return Naming(identifier=room, values=values, storage=StoragePlan(backend, backup=None))


def file(filepath: str, naming_: Naming) -> str:
    wire = EncodedFileOutput(filepath=filepath)
    return outputs.file_output(RequestedFile(wire, (wire,)), Container.OGG, naming_).filepath


def longest_part(path: str) -> int:
    return max(len(part.encode()) for part in path.split("/"))


@pytest.mark.parametrize(
    ("room", "filepath", "expected"),
    [
        ("n" * 247, "{room_name}.ogg", "n" * 247 + ".ogg"),
        ("n" * 251, "{room_name}.ogg", "n" * 251 + ".ogg"),
        ("n" * 252, "{room_name}.ogg", "n" * 242 + "~" + cut("n" * 252, 9)[1:] + ".ogg"),
        ("议" * 83, "{room_name}.ogg", "议" * 83 + ".ogg"),
        ("a/b", "{room_name}", "a/b.ogg"),
    ],
)
def test_what_fits_stays_and_what_does_not_is_cut(room: str, filepath: str, expected: str) -> None:
    assert file(filepath, names(room)) == expected


@pytest.mark.parametrize("room", ["n" * 240, "会" * 80, "🎥" * 64, "e\u0301" * 90, "a/" * 10 + "x" * 300])
@pytest.mark.parametrize("filepath", ["", "dir/", "{room_name}-{time}", "{room_name}/{room_name}.ogg"])
def test_default_and_templated_names_of_long_rooms(room: str, filepath: str) -> None:
    path = file(filepath, names(room))
    assert longest_part(path) <= 255
    assert path.endswith(".ogg")
    if "room_name}/" not in filepath:
        assert "2025-02-14T095704" in path
    assert "\ufffd" not in path
    other = file(filepath, names(room + "!"))
    assert other != path


def test_what_the_request_itself_says_too_long_is_refused() -> None:
    with pytest.raises(EgressError, match=r"filepath .* is too long: the storage takes") as refused:
        file("x" * 252, names("r"))
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert file("x" * 251, names("r")) == "x" * 251 + ".ogg"
    with pytest.raises(EgressError, match="filepath"):
        file("/".join(["x" * 200] * 21), names("r"))


@pytest.mark.parametrize(
    ("backend", "length"), [(S3, 1024), (AliOSSStorage(bucket="b"), 1023)], ids=["s3", "oss"]
)
def test_keys_of_object_stores_are_longer(backend: Backend, length: int) -> None:
    assert file("{room_name}", names("n" * 600, backend)) == "n" * 600 + ".ogg"
    assert len(file("{room_name}", names("n" * 2000, backend))) == length - 1
    with pytest.raises(EgressError, match="filepath"):
        file("x" * 1100, names("n", backend))


def test_a_backup_on_the_disk_sets_the_limit_too() -> None:
    storage = StoragePlan(S3, backup=LOCAL)
    path = file("{room_name}", Naming("r", {"room_name": "n" * 600}, storage))
    assert longest_part(path) == 255


def test_segments_and_pictures_leave_room_for_their_numbers() -> None:
    wire = SegmentedFileOutput(filename_prefix="{room_name}", playlist_name="{room_name}")
    requested = RequestedSegments(wire, (wire,))
    for room in ("段" * 80, "n" * 255):
        output = outputs.segment_output(requested, names(room))
        written = naming.longest_of_segments(
            output_names.segment_names(output, {}), f".{output.container.value}", output.timestamp_suffix
        )
        assert longest_part("/".join(written)) <= 255
    picture = ImageOutput(filename_prefix="{room_name}")
    planned = outputs.image_output(RequestedImages(picture, (picture,)), names("n" * 255))
    assert longest_part(naming.image_file(planned.prefix, 0, 0, planned.suffix)) <= 255


@pytest.mark.parametrize(
    "filepath",
    ["{publisher_identity}", "{room_name}-{publisher_identity}", "x" * 240 + "{publisher_identity}"],
)
def test_what_only_the_room_tells_is_cut_when_it_does(filepath: str) -> None:
    wire = DirectFileOutput(filepath=filepath)
    try:
        output = outputs.file_output(RequestedFile(wire, (wire,)), None, names("r" * 200))
    except EgressError:
        assert filepath.startswith("x")  # with the placeholder as it stands, nothing fits
        return
    filled = [
        output_names.file_name(output, {"publisher_identity": identity * 100}) for identity in ("ü", "ö")
    ]
    assert all(longest_part(name + ".webm") <= 255 for name in filled)
    assert filled[0] != filled[1]


_ROOMS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=120)


@given(room=_ROOMS, identity=_ROOMS, filepath=st.sampled_from(["{room_name}", "x/{room_name}.mp4", ""]))
def test_what_lies_beside_a_recording_fits_too(room: str, identity: str, filepath: str) -> None:
    """Parts, sidecars and voices, however long what the name of the recording has left of 255 bytes."""
    wire = EncodedFileOutput(filepath=filepath)
    written: list[str] = []
    for whole in (f"{'n' * 200}{room}", f"{'n' * 200}{room}!"):
        output = outputs.file_output(RequestedFile(wire, (wire,)), Container.MP4, names(whole))
        for each in (output, replace(output, split=Split(every_s=60.0))):
            named = naming.with_extension(output_names.file_name(each, {}), ".mp4")
            numbers = (0, 99_999) if each.split else (0, 1)
            written += [stored_name(each, number, named) for number in numbers]
        endings = [tail for each in ENDINGS.values() for tail in each]
        endings += [ending(who, StemFormat.OPUS) for who in (identity, identity * 20 + "x")]
        written += [output_names.sidecar_name(output, {}, tail) for tail in endings]
    assert max(map(longest_part, written)) <= 255
    assert len(set(written)) == len(written)


@pytest.mark.parametrize("backend", [S3, AliOSSStorage(bucket="b")], ids=["s3", "oss"])
def test_what_lies_beside_a_recording_in_a_deep_folder_fits_too(backend: Backend) -> None:
    """The whole key counts there, and not each of its parts."""
    wire = EncodedFileOutput(filepath=f"{'d' * 500}/{'x' * 517}")
    output = outputs.file_output(RequestedFile(wire, (wire,)), Container.MP4, names("r", backend))
    endings = [tail for each in ENDINGS.values() for tail in each]
    written = [output_names.sidecar_name(output, {}, tail) for tail in endings]
    written.append(stored_name(output, 1, output_names.file_name(output, {})))
    assert max(len(path) for path in written) <= 1023
    assert len(set(written)) == len(endings) + 1


@given(
    first=_ROOMS,
    second=_ROOMS,
    filepath=st.sampled_from(["{room_name}", "{room_name}/x", "a-{room_name}.ogg"]),
)
def test_names_fit_and_those_of_two_rooms_stay_two(first: str, second: str, filepath: str) -> None:
    rooms = [f"{'n' * 200}{room}n" for room in (first, second)]
    paths = [file(filepath, names(room)) for room in rooms]
    assert max(map(longest_part, paths)) <= 255
    uncut = {naming.name(filepath, names(room).values) for room in rooms}
    assert len(set(paths)) == len(uncut)


@given(st.text(min_size=1, max_size=80), st.integers(10, 60))
def test_cut(text: str, longest_bytes: int) -> None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return
    short = cut(text, longest_bytes)
    assert len(short.encode()) <= longest_bytes
    assert (short == text) is (len(encoded) <= longest_bytes)
    if short != text:
        kept, mark, _ = short.rpartition("~")
        assert mark and text.startswith(kept)


_CLUSTERS = (
    "a",
    "界",
    "🎥",
    "🇩🇪",
    "🇫🇷",
    "👩\u200d👩\u200d👧",
    "👋🏽",
    "❤\ufe0f\u200d🔥",
    "1\ufe0f\u20e3",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "e\u0301\u0323",
    "क्षि",
    "กำ",
    "\u1112\u1161\u11ab",
    "한",
)
"""Each is read as one character."""


@given(st.lists(st.sampled_from(_CLUSTERS), min_size=1, max_size=40), st.integers(10, 120))
def test_a_cut_is_never_within_what_is_read_as_one_character(clusters: list[str], longest_bytes: int) -> None:
    text = "".join(clusters)
    short = cut(text, longest_bytes)
    if short == text:
        return
    ends = ["".join(clusters[:count]) for count in range(len(clusters))]
    kept = short.rpartition("~")[0]
    assert kept == max((end for end in ends if len(end.encode()) + 9 <= longest_bytes), key=len)


@given(st.lists(st.sampled_from(_CLUSTERS), max_size=12))
def test_boundaries_are_those_between_the_characters_that_readers_see(clusters: list[str]) -> None:
    text = "".join(clusters)
    assert [at for at in range(len(text) + 1) if is_boundary(text, at)] == [
        0,
        *accumulate(map(len, clusters)),
    ]


def test_marks_without_an_end_leave_the_hash() -> None:
    assert cut("e" + "\u0301" * 300, 60).startswith("~")
