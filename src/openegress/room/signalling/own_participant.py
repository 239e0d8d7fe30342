"""Reads the server's reports about the recorder's own participant. Pure."""

from livekit.protocol.models import ParticipantInfo

from openegress.room.events import OwnMetadataChanged, PauseAttributeChanged

PAUSED = "egress.paused"
"""The recorder's attribute that pauses the recording."""
_NO = frozenset({"", "0", "false", "no", "off"})


class OwnParticipant:
    """The recorder's participant, as of the last report."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._metadata = ""
        self._paused = ""
        """The value of the attribute PAUSED."""

    def join(self) -> None:
        """Prepares for a new join, which starts without attributes; earlier requests stay in force."""
        self._metadata, self._paused = "", ""

    def told(self, info: ParticipantInfo) -> list[OwnMetadataChanged | PauseAttributeChanged]:
        """Takes a report, and returns what has changed."""
        events: list[OwnMetadataChanged | PauseAttributeChanged] = []
        if info.state == ParticipantInfo.State.DISCONNECTED:
            return events  # the same as before
        if info.metadata != self._metadata:
            self._metadata = info.metadata
            events.append(OwnMetadataChanged(info.metadata))
        if (paused := info.attributes.get(PAUSED, "")) != self._paused:
            self._paused = paused
            events.append(PauseAttributeChanged(says_yes(info, PAUSED)))
        return events


def says_yes(info: ParticipantInfo, attribute: str) -> bool:
    """Whether an attribute says yes: any value but a known no does. Somebody who misspells the value does not
    want to be recorded either."""
    return info.attributes.get(attribute, "").strip().lower() not in _NO
