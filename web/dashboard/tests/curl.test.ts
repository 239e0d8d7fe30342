/// <reference types="node" />
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { curlCommand } from "../src/curl";

const request = {
  type: "web",
  method: "StartWebEgress",
  body: {
    url: "https://example.com/it's?a=$b&c=`d`",
    audio_only: false,
    preset: "H264_1080P_30",
    file_outputs: [
      { filepath: "a.mp4", disable_manifest: false, s3: { access_key: "{access_key}", region: "" } },
    ],
    stream_outputs: [],
    advanced: null,
    width: 0,
    limit: "0",
    empty: {},
  },
};

test("the shell reads back the request, without defaults, and the token from its variable", () => {
  const script = `curl() { printf '%s\\n' "$@"; }\n${curlCommand(request, "https://host/egress")}`;
  const args = execFileSync("sh", ["-c", script], { env: { TOKEN: "t0k" }, encoding: "utf8" });
  const [head, body] = args.split("\n-d\n");
  expect(head?.split("\n")).toEqual([
    "-X",
    "POST",
    "https://host/egress/twirp/livekit.Egress/StartWebEgress",
    "-H",
    "Authorization: Bearer t0k",
    "-H",
    "Content-Type: application/json",
  ]);
  expect(JSON.parse(body ?? "")).toEqual({
    url: "https://example.com/it's?a=$b&c=`d`",
    preset: "H264_1080P_30",
    file_outputs: [{ filepath: "a.mp4", s3: { access_key: "{access_key}" } }],
    empty: {},
  });
});
