"""LiveKit's messages as protocol v1.54.0 has them, where the livekit-protocol wheel is older.

Code speaks the wheel's classes. What they do not know stays in their unknown fields, and `today` reads it
there: both classes write the same bytes.
"""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

VERSION = "1.54.0"


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(
        Path(__file__).with_name("livekit.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


@cache
def kind_of(name: str) -> type[Message]:
    """The class of a message by its full name. Raises KeyError for one that neither LiveKit's API nor ours
    has."""
    if name.startswith("openegress."):
        return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def today(message: Message) -> Any:
    """The same message with the fields of today. A copy."""
    return kind_of(message.DESCRIPTOR.full_name).FromString(message.SerializeToString())


def in_wheel(message: Message, kind: type[M]) -> M:
    """The other way round: nothing is lost."""
    return kind.FromString(message.SerializeToString())


def known(message: M) -> M:
    """A copy without what protocol v1.54.0 does not know either."""
    copy = today(message)
    copy.DiscardUnknownFields()
    return in_wheel(copy, type(message))
