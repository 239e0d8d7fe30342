// Prints the segments of a media playlist as JSON. Fails on one that RFC 8216 does not allow.
import { readFileSync } from "node:fs";
import * as HLS from "hls-parser";

HLS.setOptions({ strictMode: true });
const playlist = HLS.parse(readFileSync(process.argv[2], "utf8"));
console.log(
  JSON.stringify({
    target: playlist.targetDuration,
    ended: Boolean(playlist.endlist),
    segments: playlist.segments.map((segment) => ({
      uri: segment.uri,
      duration: segment.duration,
      discontinuity: Boolean(segment.discontinuity),
      sequence: segment.discontinuitySequence,
      date: segment.programDateTime.getTime() / 1000,
      map: segment.map?.uri ?? "",
    })),
  }),
);
