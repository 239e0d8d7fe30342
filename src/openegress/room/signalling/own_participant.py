"""What a server reports about the recorder itself, as one of the participants. Pure."""

from livekit.protocol.models import ParticipantInfo

from openegress.room.events import OwnMetadataChanged, PauseAttributeChanged

PAUSED = "egress.paused"
"""An attribute of the recorder."""
_NO = frozenset({"", "0", "false", "no", "off"})


class OwnParticipant:
    """The last report."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._metadata = ""
        self._paused = ""
        """As its attribute says."""

    def join(self) -> None:
        """A new join starts without attributes; earlier requests stay in force."""
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
    """Any other value means yes: somebody who writes the attribute wrongly does not want to be recorded
    either."""
    return info.attributes.get(attribute, "").strip().lower() not in _NO
