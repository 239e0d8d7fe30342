"""Builds the Protobuf schemas for the messages of an MCAP file: Foxglove's for encoded pictures and sound,
LiveKit's DataPacket for data.

https://docs.foxglove.dev/docs/sdk/schemas/compressed-video and compressed-audio.
"""

from functools import cache
from typing import Protocol, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media.mcap_records import schema
from openegress.proto.today import kind_of

ENCODING = "protobuf"

_Field = descriptor_pb2.FieldDescriptorProto
_TEXT, _BYTES = _Field.TYPE_STRING, _Field.TYPE_BYTES


class _WithData(Protocol):
    data: bytes


class MediaSchema:
    """One message type: a time, data, and the codec's name as `format`."""

    def __init__(
        self, number: int, name: str, fields: dict[str, tuple[int, "_Field.Type.ValueType"]]
    ) -> None:
        """`number`: the schema's number in the file. `fields`: number and type of the fields other than
        `timestamp`, which has number 1."""
        self.number = number
        file = descriptor_pb2.FileDescriptorProto(
            name=f"foxglove/{name}.proto",
            package="foxglove",
            dependency=["google/protobuf/timestamp.proto"],
            syntax="proto3",
        )
        type_ = file.message_type.add(name=name)
        type_.field.add(
            name="timestamp",
            number=1,
            type=_Field.TYPE_MESSAGE,
            type_name=".google.protobuf.Timestamp",
            label=_Field.LABEL_OPTIONAL,
        )
        for field, (place, kind) in fields.items():
            type_.field.add(name=field, number=place, type=kind, label=_Field.LABEL_OPTIONAL)
        timestamp = descriptor_pb2.FileDescriptorProto()
        timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(timestamp)
        pool.Add(file)
        full_name = f"foxglove.{name}"
        self._type: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))
        described = descriptor_pb2.FileDescriptorSet(file=[timestamp, file])
        self.record = schema(number, full_name, ENCODING, described.SerializeToString())

    def message(self, at_ns: int, data: bytes, codec: str) -> bytes:
        """Builds a message. `at_ns`: unix ns."""
        seconds, nanos = divmod(at_ns, S)
        timestamp = {"seconds": seconds, "nanos": nanos}
        return self._type(timestamp=timestamp, data=data, format=codec).SerializeToString()

    def data_in(self, message: bytes) -> bytes:
        """Returns the data that message() was given. Raises ValueError."""
        try:
            return cast(_WithData, self._type.FromString(message)).data
        except DecodeError as error:
            raise ValueError(f"a message is not a {self._type.DESCRIPTOR.name}: {error}") from error


VIDEO = MediaSchema(1, "CompressedVideo", {"frame_id": (2, _TEXT), "data": (3, _BYTES), "format": (4, _TEXT)})
AUDIO = MediaSchema(2, "CompressedAudio", {"data": (2, _BYTES), "format": (3, _TEXT)})
SCHEMA_BY_KIND = {MediaKind.VIDEO: VIDEO, MediaKind.AUDIO: AUDIO}

DATA_NUMBER = 3
_DATA_PACKET = "livekit.DataPacket"


@cache
def data_schema() -> bytes:
    """Returns the schema record of data. Built only when data comes, because it reads the descriptors of
    LiveKit's protocol."""
    described = descriptor_pb2.FileDescriptorSet()
    _describe(cast(FileDescriptor, kind_of(_DATA_PACKET).DESCRIPTOR.file), described)
    return schema(DATA_NUMBER, _DATA_PACKET, ENCODING, described.SerializeToString())


def _describe(file: FileDescriptor, into: descriptor_pb2.FileDescriptorSet) -> None:
    """Adds the file's descriptor once, after everything it imports."""
    for imported in file.dependencies:
        _describe(imported, into)
    if all(each.name != file.name for each in into.file):
        file.CopyToProto(into.file.add())
