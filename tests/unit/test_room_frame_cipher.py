"""Frames encrypted as client-sdk-js does, and what must not be taken for one."""

import hmac
import re
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.room_keys import KeyDerivation, RoomKey
from openegress.core.units import S
from openegress.room import Lock, Participant, Track, TrackEncryption, TrackSource
from openegress.room.budget import Reason
from openegress.room.frame_keys import RATCHET_WINDOW, RATCHETS, Undecryptable
from openegress.room.rtp.depacketise import MalformedPayload
from openegress.room.rtp.frame_cipher import MAX_FAILURES, RoomCipher, TrackCipher
from testkit import sealed_frames
from testkit.sealed_frames import IV, SALT, AtOnce, derived

T = TypeVar("T")

PASSPHRASE = b"known to all"
SPS_640 = bytes.fromhex("6742c01eda0280bfe584000003000400000300f03c58ba80")
START = b"\0\0\0\1"

MADE = RoomKey(0, PASSPHRASE)
ROOM = RoomCipher([MADE], AtOnce())
"""One for all tests that change nothing: a key takes 60 ms."""


KEY = derived(PASSPHRASE)


def sealed(
    frame: bytes, clear: int, *, key: bytes = KEY, index: int = 0, iv: bytes = IV, nal: bool = False
) -> bytes:
    return sealed_frames.sealed(frame, clear, key, index=index, iv=iv, nal=nal)


def alice(room: RoomCipher = ROOM) -> TrackCipher:
    return room.of("alice")


@pytest.mark.parametrize(
    ("codec", "frame", "clear"),
    [
        (AudioCodec.OPUS, b"\x78opus", 1),
        (AudioCodec.OPUS, b"\x78", 1),
        (AudioCodec.PCMU, b"\xff" * 160, 1),
        (VideoCodec.VP8, b"\x30\x33\x00\x9d\x01\x2a\x80\x02\x68\x01rest of a key frame", 10),
        (VideoCodec.VP8, b"\x31\x33\x00rest of another", 3),
        (VideoCodec.VP9, b"\x82all of it", 0),
    ],
)
def test_the_clear_bytes_of_a_codec(codec: AudioCodec | VideoCodec, frame: bytes, clear: int) -> None:
    assert alice().open(codec, sealed(frame, clear), 0) == frame


@pytest.mark.parametrize(
    ("codec", "before", "slice_"),
    [
        (VideoCodec.H264, START + SPS_640 + START + b"\x68\xce\x06" + START, b"\x65\x88\x84picture"),
        (VideoCodec.H264, START, b"\x41\x9a\x02picture"),
        (VideoCodec.H264, START + b"\x06\x05\x01\x80" + START, b"\x01\x9a\0\0\1\x41\x9asecond slice"),
        (VideoCodec.H265, START + b"\x40\x01vps" + START + b"\x42\x01sps" + START, b"\x26\x01\xafpicture"),
        (VideoCodec.H265, START, b"\x02\x01\xd0picture"),
    ],
)
def test_of_nal_units_all_is_clear_up_to_the_second_byte_of_the_first_slice(
    codec: VideoCodec, before: bytes, slice_: bytes
) -> None:
    frame = before + slice_
    assert alice().open(codec, sealed(frame, len(before) + 2, nal=True), 0) == frame


@pytest.mark.parametrize("told", [b"", bytes(each ^ 0xFF for each in b"\2\4\0\0\0\7")])
def test_what_a_sender_tells_of_a_picture_is_cut_off(told: bytes) -> None:
    mark = told + bytes([len(told) + 5 ^ 0xFF]) + b"LKTS"
    for codec, frame, clear in (
        (VideoCodec.VP8, b"\x31\x33\x00picture", 3),
        (VideoCodec.H264, START + b"\x41\x9a\x02picture", 6),
        (VideoCodec.VP9, b"\x82picture", 0),
    ):
        sent = sealed(frame, clear, nal=codec is VideoCodec.H264)
        assert alice().open(codec, sent + mark, 0) == frame
        for wrong in (b"LKTS", b"\xffLKTS", b"\x00LKTS", b"\xfbLKTS"):
            with pytest.raises(Undecryptable):
                alice().open(codec, sent + wrong, 0)


@given(
    body=st.binary(max_size=40), zeros=st.integers(0, 60), iv=st.sampled_from([IV, bytes(12), b"\0\0\3" * 4])
)
def test_emulation_prevention_is_taken_back(body: bytes, zeros: int, iv: bytes) -> None:
    frame = START + b"\x41\x9a" + body + bytes(zeros) + body
    sent = sealed(frame, 6, iv=iv, nal=True)
    assert re.search(rb"\x00\x00[\x00-\x02]", sent[6:]) is None
    assert alice().open(VideoCodec.H264, sent, 0) == frame


def test_ciphertext_with_zeros_survives() -> None:
    """A key stream that makes zeros of what it encrypts, so that they have to be escaped."""
    head = START + b"\x41\x9a"
    stream = AESGCM(KEY).encrypt(IV, bytes(64), head)[:64]
    frame = head + stream
    sent = sealed(frame, 6, nal=True)
    assert sent.count(b"\0\0\3") > 20
    assert alice().open(VideoCodec.H264, sent, 0) == frame


def test_random_bytes_make_a_key_by_hkdf() -> None:
    """RFC 5869 with one block, as crypto.subtle does with 128 zero bytes of info."""
    secret = bytes(range(32))
    extracted = hmac.digest(SALT, secret, "sha256")
    key = hmac.digest(extracted, bytes(128) + b"\x01", "sha256")[:16]
    room = RoomCipher([RoomKey(2, secret, KeyDerivation.HKDF)], AtOnce())
    sent = sealed(b"\x78opus", 1, key=key, index=2)
    assert room.of("alice").open(AudioCodec.OPUS, sent, 0) == b"\x78opus"


def test_a_frame_says_which_key_it_is_of() -> None:
    room = RoomCipher([MADE, RoomKey(5, b"later")], AtOnce())
    cipher = alice(room)
    for index, key in ((0, KEY), (5, derived(b"later")), (0, KEY)):
        assert cipher.open(AudioCodec.OPUS, sealed(b"\x78opus", 1, key=key, index=index), 0) == b"\x78opus"
    with pytest.raises(Undecryptable, match="no key of index 4"):
        cipher.open(AudioCodec.OPUS, sealed(b"\x78opus", 1, index=4), 0)


@pytest.mark.parametrize("index", [0, 1, 10, -1, -2, -5, -20])
def test_no_bit_may_be_another(index: int) -> None:
    sent = bytearray(sealed(b"\x78opus that is long enough", 1))
    sent[index] ^= 0x40
    with pytest.raises(Undecryptable):
        alice().open(AudioCodec.OPUS, bytes(sent), 0)


@pytest.mark.parametrize("codec", [*AudioCodec, *VideoCodec])
@given(data=st.binary(min_size=1, max_size=80))
def test_anything_else_is_not_decrypted(codec: AudioCodec | VideoCodec, data: bytes) -> None:
    with pytest.raises(Undecryptable):
        alice().open(codec, data, 0)


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4))
def test_any_payloads_make_a_frame_or_none(payloads: list[bytes]) -> None:
    for codec in VideoCodec:
        try:
            alice().join(codec, payloads, 0)
        except (MalformedPayload, Undecryptable):
            continue


class Ratcheting:
    """A sender with the first key, and the keys that follow it."""

    def __init__(self) -> None:
        self.material = PASSPHRASE

    def step(self, count: int = 1) -> bytes:
        for _ in range(count):
            self.material = derived(self.material, 32)
        return sealed(b"\x78opus", 1, key=derived(self.material))


def opened(cipher: TrackCipher, sent: bytes, tries: int, now_ns: int = 0) -> int | None:
    """After how many frames; None: not within `tries`."""
    for number in range(tries):
        try:
            cipher.open(AudioCodec.OPUS, sent, now_ns)
        except Undecryptable:
            continue
        return number
    return None


def test_who_goes_on_by_a_step_loses_nothing() -> None:
    room = RoomCipher([MADE], AtOnce())
    sender = Ratcheting()
    assert opened(alice(room), sealed(b"\x78opus", 1), 1) == 0
    for _ in range(3):
        sent = sender.step(1)
        assert opened(alice(room), sent, 1) == 0
        assert opened(alice(room), sent, 1) == 0


def test_a_ratcheted_key_is_found_step_by_step() -> None:
    room = RoomCipher([MADE], AtOnce())
    sender = Ratcheting()
    assert opened(alice(room), sender.step(3), 10) in range(1, 4)
    assert opened(alice(room), sealed(b"\x78opus", 1), 10) is None, "a key that was left is not taken again"
    assert opened(room.of("bob"), sealed(b"\x78opus", 1), 1) == 0, "others go on with their own"
    assert opened(room.of("bob"), sealed(b"\x78opus", 1, key=derived(sender.material)), 1) == 0


def test_the_window_goes_with_the_last_key() -> None:
    room = RoomCipher([MADE], AtOnce())
    sender = Ratcheting()
    far = Ratcheting().step(RATCHET_WINDOW + 1)
    assert opened(alice(room), far, 20) is None
    assert opened(alice(room), sender.step(RATCHET_WINDOW), 1) == 0
    assert opened(alice(room), sender.step(1), 20) is not None


def test_steps_are_derived_only_so_often() -> None:
    room = RoomCipher([MADE], AtOnce())
    sender = Ratcheting()
    assert opened(alice(room), sender.step(8), 20) is not None
    assert opened(alice(room), sender.step(8), 20) is not None
    assert RATCHETS.burst == 16
    sent = sender.step(1)
    cipher = alice(room)
    assert opened(cipher, sent, 3 * MAX_FAILURES) is None
    assert cipher.trouble() is None, "it may be among those that are to be derived"
    assert opened(cipher, sent, 1, now_ns=S) == 0


def test_a_track_is_in_trouble_after_many_failures_in_a_row() -> None:
    room = RoomCipher([MADE], AtOnce())
    cipher = alice(room)
    wrong, right = sealed(b"\x78opus", 1, key=bytes(16)), sealed(b"\x78opus", 1)
    failures = 0
    while (trouble := cipher.trouble()) is None:
        assert opened(cipher, wrong, 1) is None
        failures += 1
    assert trouble is Reason.WRONG_KEY
    assert MAX_FAILURES <= failures <= MAX_FAILURES + RATCHET_WINDOW
    assert cipher.trouble() is None, "counted anew when it is taken again"
    assert opened(cipher, right, 1) == 0
    assert opened(cipher, wrong, MAX_FAILURES - 1) is None
    assert opened(cipher, right, 1) == 0
    assert opened(cipher, wrong, MAX_FAILURES - 1) is None
    assert cipher.trouble() is None
    assert opened(cipher, wrong, 1) is None
    assert cipher.trouble() is Reason.KEY_CHANGED
    assert room.of("alice").open(AudioCodec.OPUS, right, 0), "another track of hers"


def test_the_servers_own_frames_are_told_by_their_end() -> None:
    room = RoomCipher([MADE], AtOnce())
    assert not alice(room).is_injected(b"silence and mark")
    room.server_mark = b"mark"
    assert alice(room).is_injected(b"silence and mark")
    assert not alice(room).is_injected(b"mark and sound")


def test_without_keys_nothing_is_decrypted() -> None:
    room = RoomCipher([], AtOnce())
    with pytest.raises(Undecryptable):
        room.of("alice").open(AudioCodec.OPUS, sealed(b"\x78opus", 1), 0)


def test_keys_do_not_print() -> None:
    assert "known to all" not in f"{MADE!r} {MADE} {[MADE]}"


# --- keys of a service


class Service:
    """Answers nothing by itself."""

    def __init__(self, *, is_soon: bool = True) -> None:
        self.wanted: list[tuple[str, int | None]] = []
        self.is_soon = is_soon

    def want(self, identity: str, index: int | None = None) -> bool:
        self.wanted.append((identity, index))
        return self.is_soon


def track_of(identity: str, mime_type: str = "audio/opus") -> Track:
    who = Participant("PA_1", identity, identity, "standard")
    kind = MediaKind.AUDIO if mime_type.startswith("audio") else MediaKind.VIDEO
    gcm = TrackEncryption.GCM
    return Track("TR_1", "", kind, TrackSource.MICROPHONE, mime_type, who, False, encryption=gcm)


def opens(room: RoomCipher, identity: str, material: bytes, index: int = 0) -> bool:
    try:
        sent = sealed(b"\x78opus", 1, key=derived(material), index=index)
        return room.of(identity).open(AudioCodec.OPUS, sent, 0) == b"\x78opus"
    except Undecryptable:
        return False


def test_a_track_is_locked_until_its_service_has_given_a_key() -> None:
    service = Service()
    room = RoomCipher([], AtOnce(), service)
    ann, ben = track_of("ann"), track_of("ben")
    assert (room.lock(ann), service.wanted) == (Lock.AWAITED, [("ann", None)])
    service.is_soon = False
    assert room.lock(ann) is Lock.NOT_GIVEN
    assert room.take([RoomKey(0, b"of ann", identities=("ann",))])
    assert (room.lock(ann), room.lock(ben)) == (None, Lock.NOT_GIVEN)
    assert (room.lacks_key(ann), room.lacks_key(ben)) == (False, True)
    assert room.lock(track_of("ann", "video/av1")) is Lock.CODEC
    assert opens(room, "ann", b"of ann") and not opens(room, "ben", b"of ann")


def test_a_frame_of_another_key_asks_for_it() -> None:
    service = Service()
    room = RoomCipher([MADE], AtOnce(), service)
    cipher = alice(room)
    for index, key in ((3, KEY), (0, bytes(16))):
        with pytest.raises(Undecryptable) as raised:
            for _ in range(MAX_FAILURES):
                opened(cipher, sealed(b"\x78opus", 1, key=key, index=index), 1)
            cipher.open(AudioCodec.OPUS, sealed(b"\x78opus", 1, key=key, index=index), 0)
        assert not raised.value.is_certain and cipher.trouble() is None
        assert service.wanted[-1] == ("alice", index)
    service.is_soon = False
    assert opened(cipher, sealed(b"\x78opus", 1, index=3), MAX_FAILURES) is None
    assert cipher.trouble() is Reason.WRONG_KEY
    with pytest.raises(Undecryptable, match="the frame is not encrypted"):
        cipher.open(AudioCodec.OPUS, b"\x78in the clear, and long enough to be a frame", 0)
    assert service.wanted[-1] == ("alice", 3), "no key would help"


class Later(AtOnce):
    """What is submitted is done when that is said."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self.waiting.append((future, partial(call, *args, **kwargs)))
        return future

    def derive(self) -> None:
        future, call = self.waiting.pop(0)
        future.set_result(call())


def test_another_key_is_asked_for_before_all_steps_are_derived() -> None:
    service, later = Service(), Later()
    room = RoomCipher([MADE], later, service)
    cipher, wrong = alice(room), sealed(b"\x78opus", 1, key=bytes(16))
    for _ in range(2):
        assert opened(cipher, wrong, 3) is None
        assert service.wanted == [], "it may be the key, or the step behind it"
        later.derive()
    assert opened(cipher, wrong, 1) is None
    assert service.wanted == [("alice", 0)]
    assert cipher.trouble() is None


def test_a_participants_own_key_and_that_of_the_room() -> None:
    own, shared = RoomKey(0, b"own", identities=("a*",)), RoomKey(0, b"shared")
    room = RoomCipher([own, shared], AtOnce())
    assert opens(room, "ann", b"own") and opens(room, "ann", b"shared") and opens(room, "ben", b"shared")
    assert not opens(room, "ben", b"own")


def test_keys_that_are_given_later_take_the_place_of_those_before() -> None:
    room = RoomCipher([], AtOnce(), Service())
    first, second = RoomKey(1, b"first"), RoomKey(1, b"second")
    assert room.take([first]) and not room.take([first])
    sender = sealed(b"\x78opus", 1, key=derived(derived(b"first", 32)), index=1)
    assert opened(alice(room), sender, 5) is not None
    assert room.take([second, RoomKey(2, b"third", identities=("ben",))])
    assert opens(room, "alice", b"second", 1), "with nothing lost"
    assert opened(alice(room), sender, 1) == 0, "what is under way, at the step where it was"
    assert not opens(room, "alice", b"third", 2) and opens(room, "ben", b"third", 2)
    assert room.take([RoomKey(1, b"fourth")])
    assert opens(room, "alice", b"fourth", 1) and opens(room, "alice", b"second", 1)
    assert not opens(room, "alice", b"first", 1), "two generations are over"
    assert opens(room, "ben", b"third", 2), "nobody took its place"
    assert room.take([second]) and opens(room, "alice", b"second", 1)


# --- data


def test_a_packet_of_data_is_sealed_with_the_keys_of_frames() -> None:
    packet = AESGCM(KEY).encrypt(IV, b"in confidence", None)
    assert ROOM.open_data("alice", 0, IV, packet, 0) == b"in confidence"


@pytest.mark.parametrize(
    ("room", "index", "iv", "packet", "why"),
    [
        (RoomCipher([], AtOnce()), 0, IV, bytes(40), "no key of its room is configured"),
        (ROOM, 1, IV, bytes(40), "there is no key of index 1"),
        (ROOM, 0, b"", bytes(40), "not encrypted as LiveKit does it"),
        (ROOM, 0, IV, b"short", "not encrypted as LiveKit does it"),
        (RoomCipher([MADE], AtOnce()), 0, IV, bytes(40), "the key of index 0 does not fit"),
    ],
)
def test_data_that_cannot_be_decrypted(
    room: RoomCipher, index: int, iv: bytes, packet: bytes, why: str
) -> None:
    with pytest.raises(Undecryptable, match=why):
        room.open_data("mallory", index, iv, packet, 0)
