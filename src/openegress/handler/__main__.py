"""Entry point: `python -m openegress.handler FD`, FD being the socket inherited from the worker."""

import asyncio
import gc
import signal
import sys

from openegress.handler.channel import Channel
from openegress.handler.life import Life


async def main(fd: int) -> None:
    channel = await Channel.open(fd)
    try:
        await Life(channel).run()
    finally:
        await channel.close()


if __name__ == "__main__":
    # Signals are the worker's business: a Ctrl-C in a terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.set_threshold(50_000, 50, 50)
    asyncio.run(main(int(sys.argv[1])))
