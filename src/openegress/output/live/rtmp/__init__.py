"""Publishes by RTMP (Adobe's RTMP specification 1.0).

It is ours, and not FFmpeg's, because of what a server may send, as a request may name any server. FFmpeg
takes memory for each message that is announced, of 16 MB on 65,000 channels: some kilobytes from a server
would cost the recording all of the machine's memory. Here nothing is kept that a publisher does not need.
"""

import errno


class RtmpError(OSError):
    """The server did something that ends the stream. The message is ours, never the server's."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EPROTO, text)


class RtmpRefused(OSError):
    """The server refused the stream."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "refused")
