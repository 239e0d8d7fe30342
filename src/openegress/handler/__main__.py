"""Entry point: `python -m openegress.handler FD`, FD being the socket to a worker that asks for handlers."""

import asyncio
import gc
import signal
import socket
import sys

from openegress.handler.channel import Channel
from openegress.handler.forks import Forks
from openegress.handler.life import Life


async def main(channel_fd: int) -> None:
    channel = await Channel.open(channel_fd)
    try:
        await Life(channel).run()
    finally:
        await channel.close()


if __name__ == "__main__":
    # Signals are the worker's business: a Ctrl-C in a terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.set_threshold(50_000, 50, 50)
    gc.collect()
    gc.freeze()  # what is loaded by now stays, and its memory shared
    channel_fd = Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
    if channel_fd is not None:
        asyncio.run(main(channel_fd))
