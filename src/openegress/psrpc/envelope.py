"""The envelope of every payload on the bus (psrpc's internal.Msg)."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from openegress.proto import psrpc_pb2

TYPE_URL_PREFIX = "type.googleapis.com/"
MAX_BYTES = 8 * 1024 * 1024
"""Limit for a payload: enough for a list of ten thousand records, the largest one."""

M = TypeVar("M", bound=Message)


def seal(message: Message) -> bytes:
    """Puts a message into its envelope. The field `channel` is empty, as Redis needs only the channel's
    name."""
    return psrpc_pb2.Msg(
        type_url=TYPE_URL_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString()
    ).SerializeToString()


def unseal(payload: bytes, kind: type[M]) -> M | None:
    """Returns the message in an envelope; None if the payload is anything else, or too large."""
    if len(payload) > MAX_BYTES:
        return None
    try:
        envelope = psrpc_pb2.Msg.FromString(payload)
        if envelope.type_url.rpartition("/")[2] != kind.DESCRIPTOR.full_name:
            return None
        return kind.FromString(envelope.value)
    except DecodeError:
        return None
