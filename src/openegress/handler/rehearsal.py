"""Does once, in advance, what every recording does first.

Libraries initialise themselves on first use. OpenSSL takes 24 ms and 10 MiB for that, more than everything
else a recording of one track needs. Work done before a fork serves every handler, and its memory is shared.
"""

import asyncio
import socket

from openegress.core import ipc, lookup_loop
from openegress.core.codecs import AudioCodec, MediaKind
from openegress.handler.channel import WorkerChannel
from openegress.media import Packet
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.passthrough import audio_format
from openegress.room.transport.media import Transport

_SAMPLES = 960
"""Samples in a packet of Opus: 20 ms."""
_PACKETS = 60
"""Number of packets: enough for two fragments."""


def rehearse() -> None:
    """Runs the rehearsal. Leaves no thread and no descriptor, and sends nothing."""
    lookup_loop.run(_talk())
    _write()


async def _talk() -> None:
    """Talks to a worker that hangs up at once, and to no room."""
    ours, theirs = socket.socketpair()
    channel = await WorkerChannel.open(theirs.detach())
    channel.send(ipc.Ready())
    ours.close()
    async for _ in channel.messages():
        pass
    await channel.close()
    transport = Transport(on_rtp=_drop, on_rtcp=_drop, on_lost=_drop)
    transport.rehearse()
    await transport.close()
    await asyncio.sleep(0)  # closed transports report it in the next turn


def _write() -> None:
    """Writes a file of sound and discards it."""
    form = audio_format(AudioCodec.OPUS)
    writer = FragmentWriter(_drop, [form], header=file_header([form]))
    writer.open()
    for at in range(0, _PACKETS * _SAMPLES, _SAMPLES):
        writer.write(Packet(MediaKind.AUDIO, b"", at, at, _SAMPLES, form.time_base, True))
    writer.close()


def _drop(*_: object) -> None:
    pass
