from livekit.protocol import egress as _livekit_egress_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartEgressRequest(_message.Message):
    __slots__ = ("egress_id", "room_id", "token", "ws_url", "cloud_backup_enabled", "estimated_cpu", "retry_count", "room_name", "room_composite", "track_composite", "track", "web", "participant", "egress", "replay")
    EGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    WS_URL_FIELD_NUMBER: _ClassVar[int]
    CLOUD_BACKUP_ENABLED_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_CPU_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROOM_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOM_COMPOSITE_FIELD_NUMBER: _ClassVar[int]
    TRACK_COMPOSITE_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    WEB_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    egress_id: str
    room_id: str
    token: str
    ws_url: str
    cloud_backup_enabled: bool
    estimated_cpu: float
    retry_count: int
    room_name: str
    room_composite: _livekit_egress_pb2.RoomCompositeEgressRequest
    track_composite: _livekit_egress_pb2.TrackCompositeEgressRequest
    track: _livekit_egress_pb2.TrackEgressRequest
    web: _livekit_egress_pb2.WebEgressRequest
    participant: _livekit_egress_pb2.ParticipantEgressRequest
    egress: _livekit_egress_pb2.StartEgressRequest
    replay: _livekit_egress_pb2.ExportReplayRequest
    def __init__(self, egress_id: _Optional[str] = ..., room_id: _Optional[str] = ..., token: _Optional[str] = ..., ws_url: _Optional[str] = ..., cloud_backup_enabled: bool = ..., estimated_cpu: _Optional[float] = ..., retry_count: _Optional[int] = ..., room_name: _Optional[str] = ..., room_composite: _Optional[_Union[_livekit_egress_pb2.RoomCompositeEgressRequest, _Mapping]] = ..., track_composite: _Optional[_Union[_livekit_egress_pb2.TrackCompositeEgressRequest, _Mapping]] = ..., track: _Optional[_Union[_livekit_egress_pb2.TrackEgressRequest, _Mapping]] = ..., web: _Optional[_Union[_livekit_egress_pb2.WebEgressRequest, _Mapping]] = ..., participant: _Optional[_Union[_livekit_egress_pb2.ParticipantEgressRequest, _Mapping]] = ..., egress: _Optional[_Union[_livekit_egress_pb2.StartEgressRequest, _Mapping]] = ..., replay: _Optional[_Union[_livekit_egress_pb2.ExportReplayRequest, _Mapping]] = ...) -> None: ...

class ListActiveEgressRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListActiveEgressResponse(_message.Message):
    __slots__ = ("egress_ids",)
    EGRESS_IDS_FIELD_NUMBER: _ClassVar[int]
    egress_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, egress_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetEgressRequest(_message.Message):
    __slots__ = ("egress_id",)
    EGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    egress_id: str
    def __init__(self, egress_id: _Optional[str] = ...) -> None: ...

class UpdateMetricsRequest(_message.Message):
    __slots__ = ("info", "avg_cpu_usage", "max_cpu_usage")
    INFO_FIELD_NUMBER: _ClassVar[int]
    AVG_CPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    MAX_CPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    info: _livekit_egress_pb2.EgressInfo
    avg_cpu_usage: float
    max_cpu_usage: float
    def __init__(self, info: _Optional[_Union[_livekit_egress_pb2.EgressInfo, _Mapping]] = ..., avg_cpu_usage: _Optional[float] = ..., max_cpu_usage: _Optional[float] = ...) -> None: ...
