/** The room's state for the page: participants as plain values, and their tracks. */

import {
  DisconnectReason,
  ParticipantKind,
  type RemoteParticipant,
  type RemoteTrackPublication,
  type Room,
  Track,
} from "livekit-client";
import type { ParticipantView, VideoView } from "./tiles";

/** Everybody but recorders. */
export function attendees(room: Room): readonly RemoteParticipant[] {
  return [...room.remoteParticipants.values()].filter((one) => one.kind !== ParticipantKind.EGRESS);
}

export function viewOf(participant: RemoteParticipant): ParticipantView {
  const videos = [...participant.videoTrackPublications.values()].map(
    (publication): VideoView => ({
      sid: publication.trackSid,
      screen: publication.source === Track.Source.ScreenShare,
      muted: publication.isMuted,
      size: publication.dimensions ?? { width: 0, height: 0 },
    }),
  );
  return {
    identity: participant.identity,
    name: participant.name || participant.identity,
    agent: participant.kind === ParticipantKind.AGENT,
    joinedAtMs: participant.joinedAt?.getTime() ?? 0,
    videos,
    hasAudio: participant.audioTrackPublications.size > 0,
  };
}

/** Publications of video by their sids. */
export function videoPublications(room: Room): ReadonlyMap<string, RemoteTrackPublication> {
  const publications = attendees(room).flatMap((one) => [...one.videoTrackPublications.values()]);
  return new Map(publications.map((one) => [one.trackSid, one as RemoteTrackPublication]));
}

/** The room is over, or we are no longer wanted in it: the proper end of a recording. */
export function isRoomEnd(reason: DisconnectReason | undefined): boolean {
  switch (reason) {
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
    case DisconnectReason.PARTICIPANT_REMOVED:
      return true;
    default:
      return false;
  }
}
