from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional

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
