"""Parses LiveKit's offers, and writes our answers (RFC 8866, RFC 8829). Pure.

The server is always the offerer. An answer takes one payload type of each codec that a recorder can use, on
every media section: LiveKit keeps one codec list per connection, taken from the first section answered. The
section of data channels is refused unless data is wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room.transport.data_channels import MAX_MESSAGE_BYTES
from openegress.room.transport.fingerprint import Fingerprint


class Encoding(Enum):
    """The codec of a payload type."""

    OPUS = "opus"
    RED = "red"
    PCMU = "pcmu"
    PCMA = "pcma"
    H264 = "h264"
    H265 = "h265"
    VP8 = "vp8"
    VP9 = "vp9"
    AV1 = "av1"

    @property
    def codec(self) -> AudioCodec | VideoCodec:
        return CODECS[self]


CODECS: dict[Encoding, AudioCodec | VideoCodec] = {
    Encoding.OPUS: AudioCodec.OPUS,
    Encoding.RED: AudioCodec.OPUS,
    Encoding.PCMU: AudioCodec.PCMU,
    Encoding.PCMA: AudioCodec.PCMA,
    Encoding.H264: VideoCodec.H264,
    Encoding.H265: VideoCodec.H265,
    Encoding.VP8: VideoCodec.VP8,
    Encoding.VP9: VideoCodec.VP9,
    Encoding.AV1: VideoCodec.AV1,
}

UNWANTED_FEEDBACK = ("goog-remb", "transport-cc", "ccm fir")
"""We do not estimate bandwidth, and use PLI to request key frames."""


class SdpError(ValueError):
    """Raised for an offer that cannot be answered; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class PayloadType:
    number: int
    encoding: Encoding
    clock_rate: int
    channels: int
    rtx_number: int | None
    lines: tuple[str, ...]
    """The offer's rtpmap, fmtp and rtcp-fb lines to repeat in the answer."""


@dataclass(frozen=True, slots=True)
class MediaStream:
    """One SSRC of a track, and the SSRC of its retransmissions (RFC 4588)."""

    ssrc: int
    rtx_ssrc: int | None
    track_sid: str


@dataclass(frozen=True, slots=True)
class MediaSection:
    kind: str
    mid: str
    protocol: str
    payload_types: tuple[PayloadType, ...]
    streams: tuple[MediaStream, ...]
    sends: bool
    sctp_port: int | None = None
    """Port for data channels (RFC 8841)."""


@dataclass(frozen=True, slots=True)
class Offer:
    username: str
    password: str
    fingerprint: Fingerprint
    ice_lite: bool
    candidates: tuple[str, ...]
    """The `candidate:...` lines."""
    sections: tuple[MediaSection, ...]

    def streams(self) -> Iterator[MediaStream]:
        for section in self.sections:
            yield from section.streams

    @property
    def sctp_port(self) -> int | None:
        """The port for data channels; None: there are none."""
        return next((each.sctp_port for each in self.sections if each.sctp_port is not None), None)

    def payload_types(self) -> dict[int, PayloadType]:
        return {each.number: each for section in self.sections for each in section.payload_types}


def parse(text: str) -> Offer:
    """Parses an offer. Raises SdpError if it lacks what a connection needs."""
    blocks: list[list[str]] = [[]]
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("m="):
            blocks.append([])
        if line:
            blocks[-1].append(line)
    everything = [line for block in blocks for line in block]
    username = _first(everything, "ice-ufrag")
    password = _first(everything, "ice-pwd")
    algorithm, _, digest = (_first(everything, "fingerprint") or "").partition(" ")
    if not username or not password or not digest:
        raise SdpError("the server's offer has no ICE credentials or no fingerprint")
    return Offer(
        username=username,
        password=password,
        fingerprint=Fingerprint(algorithm, digest),
        ice_lite="a=ice-lite" in blocks[0],
        candidates=tuple(dict.fromkeys(line[2:] for line in everything if line.startswith("a=candidate:"))),
        sections=tuple(_section(block) for block in blocks[1:]),
    )


def answer(
    offer: Offer, username: str, password: str, fingerprint: Fingerprint, *, takes_data: bool = False
) -> str:
    """The text of our answer: receive only, DTLS client, everything in one bundle."""
    credentials = [
        f"a=ice-ufrag:{username}",
        f"a=ice-pwd:{password}",
        f"a=fingerprint:{fingerprint.algorithm} {fingerprint.value}",
    ]
    lines = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    taken = [each for each in offer.sections if each.payload_types or (takes_data and each.sctp_port)]
    lines.append(" ".join(["a=group:BUNDLE", *(each.mid for each in taken)]))
    lines += credentials
    for section in offer.sections:
        usable = section in taken
        formats = " ".join(_numbers(section)) if section.payload_types else _other_format(section)
        lines.append(f"m={section.kind} {9 if usable else 0} {section.protocol} {formats}")
        lines.append("c=IN IP4 0.0.0.0")
        lines += credentials
        lines += ["a=setup:active", f"a=mid:{section.mid}"]
        if usable and section.sctp_port:
            lines += [f"a=sctp-port:{section.sctp_port}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]
        elif usable:
            lines += ["a=rtcp-mux", "a=rtcp-rsize"]
            lines += [line for each in section.payload_types for line in each.lines]
            lines.append("a=recvonly" if section.sends else "a=inactive")
    return "\r\n".join(lines) + "\r\n"


def _numbers(section: MediaSection) -> Iterator[str]:
    for each in section.payload_types:
        yield str(each.number)
        if each.rtx_number is not None:
            yield str(each.rtx_number)


def _other_format(section: MediaSection) -> str:
    return "webrtc-datachannel" if section.kind == "application" else "0"


def _section(lines: list[str]) -> MediaSection:
    head = lines[0][2:].split()
    if len(head) < 4:
        raise SdpError(f"the server's offer has a broken media line: {lines[0][:80]!r}")
    kind, _, protocol, *formats = head
    sends = "a=sendrecv" in lines or "a=sendonly" in lines
    return MediaSection(
        kind=kind,
        mid=_first(lines, "mid") or "",
        protocol=protocol,
        payload_types=_payload_types(lines, formats) if kind in ("audio", "video") else (),
        streams=_streams(lines) if sends else (),
        sends=sends,
        sctp_port=_number(_first(lines, "sctp-port") or "") if kind == "application" else None,
    )


def _payload_types(lines: list[str], formats: list[str]) -> tuple[PayloadType, ...]:
    names: dict[int, tuple[str, int, int]] = {}
    for number, text in _numbered(lines, "rtpmap"):
        name, _, rest = text.partition("/")
        rate, _, channels = rest.partition("/")
        if (clock_rate := _number(rate)) is not None:
            names[number] = (name.lower(), clock_rate, _number(channels) or 1)
    if "0" in formats:
        names.setdefault(0, ("pcmu", 8000, 1))
    if "8" in formats:
        names.setdefault(8, ("pcma", 8000, 1))
    parameters = dict(_numbered(lines, "fmtp"))
    retransmissions = {
        repaired: number
        for number, (name, _, _) in names.items()
        if name == "rtx"
        and (repaired := _number(parameters.get(number, "").removeprefix("apt="))) is not None
    }
    chosen: dict[Encoding, tuple[int, int]] = {}
    for number, (name, _, _) in names.items():
        encoding = next((each for each in Encoding if each.value == name), None)
        rank = _rank(encoding, parameters.get(number, "")) if encoding else 0
        if encoding and rank > chosen.get(encoding, (0, 0))[0]:
            chosen[encoding] = (rank, number)
    return tuple(
        PayloadType(
            number=number,
            encoding=encoding,
            clock_rate=names[number][1],
            channels=names[number][2],
            rtx_number=retransmissions.get(number),
            lines=_repeated(lines, {number, retransmissions.get(number, number)}),
        )
        for encoding, (_, number) in chosen.items()
    )


def _rank(encoding: Encoding, parameters: str) -> int:
    """How well a payload type suits; 0: not at all."""
    match encoding:
        case Encoding.H264:
            if "packetization-mode=1" not in parameters:
                return 0
            return 2 if "42e01f" in parameters else 1
        case Encoding.VP9:
            return 1 if "profile-id=" not in parameters or "profile-id=0" in parameters else 0
        case _:
            return 1


def _repeated(lines: list[str], numbers: set[int]) -> tuple[str, ...]:
    kept = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name not in ("a=rtpmap", "a=fmtp", "a=rtcp-fb"):
            continue
        number, _, value = rest.partition(" ")
        if _number(number) in numbers and not value.startswith(UNWANTED_FEEDBACK):
            kept.append(line)
    return tuple(kept)


def _streams(lines: list[str]) -> tuple[MediaStream, ...]:
    """The streams of a section. Track SIDs are the second word of msid, per SSRC or for the whole section."""
    section_track = (_first(lines, "msid") or "").split(" ")[-1]
    retransmissions: dict[int, int] = {}
    for line in lines:
        if line.startswith("a=ssrc-group:FID "):
            first, _, second = line.removeprefix("a=ssrc-group:FID ").partition(" ")
            ssrc, repair = _number(first), _number(second)
            if ssrc is not None and repair is not None:
                retransmissions[ssrc] = repair
    tracks: dict[int, str] = {}
    for ssrc, text in _numbered(lines, "ssrc"):
        name, _, value = text.partition(":")
        tracks.setdefault(ssrc, section_track)
        if name == "msid":
            tracks[ssrc] = value.split(" ")[-1]
    repairing = set(retransmissions.values())
    return tuple(
        MediaStream(ssrc, retransmissions.get(ssrc), track)
        for ssrc, track in tracks.items()
        if ssrc not in repairing and track
    )


def _numbered(lines: list[str], name: str) -> Iterator[tuple[int, str]]:
    prefix = f"a={name}:"
    for line in lines:
        if line.startswith(prefix):
            first, _, rest = line[len(prefix) :].partition(" ")
            if (number := _number(first)) is not None:
                yield number, rest.strip()


def _number(text: str) -> int | None:
    """A number of 32 bits, as SSRCs and payload types are; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number < 1 << 32 else None


def _first(lines: list[str], name: str) -> str | None:
    prefix = f"a={name}:"
    return next((line[len(prefix) :].strip() for line in lines if line.startswith(prefix)), None)
