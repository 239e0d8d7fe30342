"""Extracts each participant's sound from a recording of all tracks, as it was heard, with silence in
between."""

from collections.abc import Iterator

from openegress.core.codecs import AudioCodec
from openegress.core.units import S
from openegress.media.meeting_file import MeetingFile
from openegress.media.mixer import BLOCK_SAMPLES, Channel, mix
from openegress.media.samples import SAMPLE_RATE
from openegress.source.room.packet_frames import AHEAD_NS, PacketFrames
from openegress.source.room.track_decoder import AudioTrackDecoder


def voices(file: MeetingFile) -> list[str]:
    """The identities of participants with sound, in file order."""
    return list(dict.fromkeys(each.identity for each in file.tracks if isinstance(each.codec, AudioCodec)))


def stems(file: MeetingFile, length_ns: int) -> Iterator[dict[str, bytes]]:
    """Blocks of 20 ms (the last may be shorter) from media time zero to `length_ns`, by identity: interleaved
    s16 stereo."""
    tracks = {each.index: each for each in file.tracks if isinstance(each.codec, AudioCodec)}
    decoders = {index: AudioTrackDecoder(Channel.BOTH, 0) for index in tracks}
    of_voice = {
        identity: [decoders[index].mixed for index, each in tracks.items() if each.identity == identity]
        for identity in voices(file)
    }
    frames, packets = PacketFrames(), file.packets()
    packet = next(packets, None)
    length = length_ns * SAMPLE_RATE // S
    for start in range(0, length, BLOCK_SAMPLES):
        until_ns = start * S // SAMPLE_RATE + AHEAD_NS
        while packet is not None and packet.at_ns <= until_ns:
            if (track := tracks.get(packet.index)) is not None:
                decoders[track.index].put(packet.at_ns, frames.of(track, packet))
            packet = next(packets, None)
        count = min(BLOCK_SAMPLES, length - start)
        yield {identity: mix(inputs, start, count) for identity, inputs in of_voice.items()}
