/** Turns the form for a new egress into a request of the Egress API. */

export type StartKind = "room_composite" | "web" | "participant" | "track_composite" | "track";

export type FormText = Readonly<Record<string, string | undefined>>;

export interface StartRequest {
  readonly method: string;
  readonly body: Readonly<Record<string, unknown>>;
}

const METHODS: Readonly<Record<StartKind, string>> = {
  room_composite: "StartRoomCompositeEgress",
  web: "StartWebEgress",
  participant: "StartParticipantEgress",
  track_composite: "StartTrackCompositeEgress",
  track: "StartTrackEgress",
};

/** What must be filled in, in the words of the form's labels. */
const NEEDED: Readonly<Record<StartKind, readonly (readonly [string, string])[]>> = {
  room_composite: [["room", "the room"]],
  web: [["url", "the address of the page"]],
  participant: [
    ["room", "the room"],
    ["identity", "the identity of the participant"],
  ],
  track_composite: [["room", "the room"]],
  track: [
    ["room", "the room"],
    ["track_id", "the track"],
  ],
};

/** Says what is missing, in words for the form. */
export class Incomplete extends Error {}

/**
 * @param form values by the names of the fields; a checkbox that is not checked has none
 * @throws Incomplete
 */
export function startRequest(form: FormText): StartRequest {
  const kind = (form.kind ?? "") as StartKind;
  const field = (name: string) => (form[name] ?? "").trim();
  for (const [name, words] of NEEDED[kind] ?? [])
    if (field(name) === "") throw new Incomplete(`Fill in ${words}.`);
  const options = optionsOf(form.options ?? "");
  const body = {
    ...sourceOfForm(kind, field),
    ...outputsOfForm(kind, form, field),
    ...(Object.keys(options).length > 0 ? { openegress: options } : {}),
  };
  return { method: METHODS[kind], body };
}

/**
 * @param text key=value on each line; the server checks the keys
 * @throws Incomplete
 */
export function optionsOf(text: string): Readonly<Record<string, string>> {
  const options = new Map<string, string>();
  for (const line of text.split("\n").map((each) => each.trim())) {
    if (line === "") continue;
    const mark = line.indexOf("=");
    const key = line.slice(0, Math.max(0, mark)).trim();
    if (key === "") throw new Incomplete(`Options: "${line}" is not key=value.`);
    if (options.has(key)) throw new Incomplete(`Options: ${key} is given twice.`);
    options.set(key, line.slice(mark + 1).trim());
  }
  return Object.fromEntries(options);
}

function sourceOfForm(kind: StartKind, field: (name: string) => string): Record<string, unknown> {
  const soundAlone = field("audio_only") ? { audio_only: true } : {};
  switch (kind) {
    case "room_composite":
      return { room_name: field("room"), layout: field("layout"), ...soundAlone };
    case "web":
      return { url: field("url"), ...soundAlone };
    case "participant":
      return {
        room_name: field("room"),
        identity: field("identity"),
        ...(field("screen_share") ? { screen_share: true } : {}),
      };
    case "track_composite": {
      const audio = field("audio_track_id");
      const video = field("video_track_id");
      if (!audio && !video) throw new Incomplete("Fill in an audio track, a video track, or both.");
      return {
        room_name: field("room"),
        ...(audio ? { audio_track_id: audio } : {}),
        ...(video ? { video_track_id: video } : {}),
      };
    }
    case "track":
      return { room_name: field("room"), track_id: field("track_id") };
  }
}

function outputsOfForm(
  kind: StartKind,
  form: FormText,
  field: (name: string) => string,
): Record<string, unknown> {
  const file = field("filepath") ? { filepath: field("filepath") } : {};
  if (kind === "track") {
    if (!form.file) throw new Incomplete("A track is recorded to a file: select it.");
    return { file };
  }
  const outputs: Record<string, unknown> = {};
  if (form.file) outputs.file_outputs = [file];
  if (form.hls) outputs.segment_outputs = [field("prefix") ? { filename_prefix: field("prefix") } : {}];
  if (form.stream) {
    const urls = field("urls").split(/\s+/).filter(Boolean);
    if (urls.length === 0) throw new Incomplete("Fill in where to stream to.");
    const protocol = urls[0]?.startsWith("srt:") ? "SRT" : "RTMP";
    outputs.stream_outputs = [{ protocol, urls }];
  }
  if (Object.keys(outputs).length === 0) throw new Incomplete("Choose at least one output.");
  return outputs;
}
