import time
from pathlib import Path

import pytest

from openegress.room.signalling import sdp
from openegress.room.signalling.sdp import Encoding
from openegress.room.transport.data_channels import MAX_MESSAGE_BYTES
from openegress.room.transport.fingerprint import Fingerprint

OFFERS = Path(__file__).parent / "data" / "sdp"
OURS = Fingerprint("sha-256", "AA:BB")


def offer(name: str) -> sdp.Offer:
    return sdp.parse((OFFERS / f"{name}.sdp").read_bytes().decode())


def answer(name: str) -> list[str]:
    return sdp.answer(offer(name), "user", "password", OURS).split("\r\n")


def sections(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            blocks.append([])
        if blocks and line:
            blocks[-1].append(line)
    return blocks


def test_the_first_offer_has_only_the_data_channel_which_is_refused() -> None:
    parsed = offer("data-channel")
    assert [each.kind for each in parsed.sections] == ["application"]
    assert len(parsed.username) == 16
    assert parsed.fingerprint.algorithm == "sha-256"
    lines = answer("data-channel")
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in lines
    assert "a=group:BUNDLE" in lines
    assert lines[-1] == ""


def test_data_channels_are_taken_where_somebody_wants_their_data() -> None:
    parsed = offer("data-channel")
    assert parsed.sctp_port == 5000
    text = sdp.answer(parsed, "user", "password", OURS, takes_data=True)
    (block,) = sections(text.split("\r\n"))
    assert block[0] == "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
    assert {"a=sctp-port:5000", "a=setup:active", f"a=max-message-size:{MAX_MESSAGE_BYTES}"} <= set(block)
    assert "a=rtcp-mux" not in block
    assert f"a=group:BUNDLE {parsed.sections[0].mid}" in text
    # Media lies in the same bundle.
    text = sdp.answer(offer("with-audio"), "user", "password", OURS, takes_data=True)
    assert "a=group:BUNDLE 0 1 2 3" in text


@pytest.mark.parametrize(
    ("name", "directions"),
    [
        ("two-videos", ["recvonly", "recvonly"]),
        ("with-audio", ["recvonly", "recvonly", "recvonly"]),
        ("unpublished", ["inactive", "recvonly", "recvonly"]),
        ("republished", ["recvonly", "recvonly", "recvonly"]),
    ],
)
def test_an_answer_keeps_the_order_and_takes_what_is_sent(name: str, directions: list[str]) -> None:
    blocks = sections(answer(name))
    assert len(blocks) == len(offer(name).sections)
    taken = blocks[1:]
    for number, (block, direction) in enumerate(zip(taken, directions, strict=True), 1):
        assert f"a={direction}" in block
        assert f"a=mid:{number}" in block
        assert "a=rtcp-mux" in block
        assert "a=setup:active" in block
        assert "a=ice-ufrag:user" in block
        assert "a=fingerprint:sha-256 AA:BB" in block


def test_one_payload_type_of_each_codec_with_its_retransmission() -> None:
    video = offer("two-videos").sections[1]
    chosen = {each.encoding: (each.number, each.rtx_number) for each in video.payload_types}
    assert chosen == {
        Encoding.VP8: (96, 97),
        Encoding.VP9: (98, 99),
        Encoding.H264: (108, 109),
        Encoding.AV1: (35, 36),
        Encoding.H265: (116, 117),
    }
    block = sections(answer("two-videos"))[1]
    assert block[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 108 109 35 36 116 117"
    assert "a=rtpmap:97 rtx/90000" in block
    assert "a=fmtp:97 apt=96" in block
    assert "a=rtcp-fb:96 nack pli" in block


def test_constrained_baseline_is_preferred_wherever_it_stands() -> None:
    """What every sender can do (RFC 6184 section 8.1), even when it is offered after another profile."""
    text = (OFFERS / "two-videos.sdp").read_bytes().decode()
    turned = text.replace("a=fmtp:108 ", "a=fmtp:X ").replace("a=fmtp:102 ", "a=fmtp:108 ")
    turned = turned.replace("a=fmtp:X ", "a=fmtp:102 ")
    for offered, number in ((text, 108), (turned, 102)):
        types = sdp.parse(offered).sections[1].payload_types
        assert [each.number for each in types if each.encoding is Encoding.H264] == [number]


@pytest.mark.parametrize("unwanted", ["goog-remb", "transport-cc", "ccm fir"])
def test_feedback_that_a_recorder_does_not_give_is_not_promised(unwanted: str) -> None:
    assert not any(unwanted in line for line in answer("with-audio"))


def test_audio_codecs() -> None:
    audio = offer("with-audio").sections[3]
    assert {each.encoding: (each.number, each.clock_rate, each.channels) for each in audio.payload_types} == {
        Encoding.OPUS: (111, 48_000, 2),
        Encoding.RED: (63, 48_000, 2),
        Encoding.PCMU: (0, 8_000, 1),
        Encoding.PCMA: (8, 8_000, 1),
    }


def test_streams_name_their_track_and_retransmissions() -> None:
    first, second = offer("two-videos").streams()
    assert first.track_sid.startswith("TR_VC")
    assert second.track_sid.startswith("TR_VS")
    assert first.rtx_ssrc is not None
    assert first.ssrc != first.rtx_ssrc
    audio = list(offer("with-audio").streams())[2]
    assert audio.track_sid.startswith("TR_AM")
    assert audio.rtx_ssrc is None


def test_a_track_that_is_gone_has_no_stream() -> None:
    assert len(list(offer("unpublished").streams())) == 2
    assert len(list(offer("republished").streams())) == 3


def test_a_track_sid_may_be_named_for_the_section_only() -> None:
    text = (OFFERS / "with-audio.sdp").read_text()
    without = "\n".join(line for line in text.splitlines() if " msid:" not in line)
    assert [each.track_sid for each in sdp.parse(without).streams()] == [
        each.track_sid for each in sdp.parse(text).streams()
    ]


def test_ice_lite_is_noticed() -> None:
    text = (OFFERS / "data-channel.sdp").read_text()
    assert not sdp.parse(text).ice_lite
    assert sdp.parse(text.replace("t=0 0", "t=0 0\na=ice-lite")).ice_lite


def test_candidates_are_listed_once() -> None:
    candidates = offer("with-audio").candidates
    assert len(set(candidates)) == len(candidates) > 0
    assert all(each.startswith("candidate:") for each in candidates)


@pytest.mark.parametrize("lost", ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint"])
def test_an_offer_without_credentials_cannot_be_answered(lost: str) -> None:
    text = (OFFERS / "with-audio.sdp").read_text()
    broken = "\n".join(line for line in text.splitlines() if not line.startswith(lost))
    with pytest.raises(sdp.SdpError):
        sdp.parse(broken)


def test_a_broken_media_line() -> None:
    text = (OFFERS / "with-audio.sdp").read_text()
    with pytest.raises(sdp.SdpError, match="broken media line"):
        sdp.parse(text + "m=video\n")


def test_an_offer_of_three_thousand_sections() -> None:
    """Thousands of tracks were published: answering takes as long as there are sections, and no longer."""
    head, *sections = (OFFERS / "with-audio.sdp").read_text().split("m=")
    video = next(each for each in sections if each.startswith("video"))
    parsed = sdp.parse(head + "".join(f"m={video}" for _ in range(3000)))
    began_s = time.thread_time()
    text = sdp.answer(parsed, "u", "p", Fingerprint("sha-256", "00"))
    assert text.count("m=video") == 3000
    assert time.thread_time() - began_s < 0.3
