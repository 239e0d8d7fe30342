"""Entry point: `python -m openegress.handler FD [s3]`. FD is the socket to a worker that requests handlers.
With s3 it also loads the S3 client, which takes a third of a second."""

import faulthandler
import gc
import signal
import socket
import sys

from openegress.core import lookup_loop
from openegress.core.ipc import STACKS_SIGNAL
from openegress.handler import rehearsal
from openegress.handler.channel import WorkerChannel
from openegress.handler.fork_server import ForkServer
from openegress.handler.loop import HandlerLoop
from openegress.media import srt
from openegress.source import memory


async def main(channel_fd: int) -> None:
    channel = await WorkerChannel.open(channel_fd)
    try:
        await HandlerLoop(channel).run()
    finally:
        await channel.close()


if __name__ == "__main__":
    # The worker handles signals: a Ctrl-C in a terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.register(STACKS_SIGNAL)  # to stderr; each forked handler has its own
    srt.find()  # cached: the search starts programs, which a recording handler may not
    if "s3" in sys.argv[2:]:
        from openegress.storage import s3_client

        s3_client.load()
    rehearsal.rehearse()
    gc.set_threshold(50_000, 50, 50)
    gc.collect()
    memory.release_free_memory()
    gc.freeze()  # keeps loaded objects, so that forks share their memory
    channel_fd = ForkServer(socket.socket(fileno=int(sys.argv[1]))).serve()
    if channel_fd is not None:
        lookup_loop.run(main(channel_fd))
