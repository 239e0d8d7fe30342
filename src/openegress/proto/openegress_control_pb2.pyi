from livekit.protocol import egress as _livekit_egress_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SetOptionsRequest(_message.Message):
    __slots__ = ("egress_id", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    egress_id: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, egress_id: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AddMarkerRequest(_message.Message):
    __slots__ = ("egress_id", "name", "ago")
    EGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AGO_FIELD_NUMBER: _ClassVar[int]
    egress_id: str
    name: str
    ago: str
    def __init__(self, egress_id: _Optional[str] = ..., name: _Optional[str] = ..., ago: _Optional[str] = ...) -> None: ...

class ClipRequest(_message.Message):
    __slots__ = ("egress_id", "last", "to", "filepath")
    EGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FILEPATH_FIELD_NUMBER: _ClassVar[int]
    egress_id: str
    last: str
    to: str
    filepath: str
    def __init__(self, egress_id: _Optional[str] = ..., last: _Optional[str] = ..., to: _Optional[str] = ..., filepath: _Optional[str] = ..., **kwargs) -> None: ...

class ClipInfo(_message.Message):
    __slots__ = ("egress", "clip", "to")
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    egress: _livekit_egress_pb2.EgressInfo
    clip: _livekit_egress_pb2.FileInfo
    to: int
    def __init__(self, egress: _Optional[_Union[_livekit_egress_pb2.EgressInfo, _Mapping]] = ..., clip: _Optional[_Union[_livekit_egress_pb2.FileInfo, _Mapping]] = ..., to: _Optional[int] = ..., **kwargs) -> None: ...

class CutRequest(_message.Message):
    __slots__ = ("asked", "egress")
    ASKED_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    asked: ClipRequest
    egress: _livekit_egress_pb2.EgressInfo
    def __init__(self, asked: _Optional[_Union[ClipRequest, _Mapping]] = ..., egress: _Optional[_Union[_livekit_egress_pb2.EgressInfo, _Mapping]] = ...) -> None: ...
