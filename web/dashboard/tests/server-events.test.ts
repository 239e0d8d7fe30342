import { expect, test } from "vitest";
import { ServerEventReader } from "../src/server-events";

const encode = (text: string) => new TextEncoder().encode(text);

test.each([
  ["one", "event: egress\ndata: {}\n\n", [["egress", "{}"]]],
  ["unnamed", "data: a\n\n", [["message", "a"]]],
  ["several lines of data", "data: a\ndata: b\n\n", [["message", "a\nb"]]],
  ["carriage returns", "event: x\r\ndata: a\r\n\r\n", [["x", "a"]]],
  ["comments and unknown fields", ": keep-alive\n\nid: 7\nretry: 1\ndata:a\n\n", [["message", "a"]]],
  ["a name without data is nothing", "event: x\n\ndata: a\n\n", [["message", "a"]]],
  ["unfinished", "event: x\ndata: a\n", []],
  ["no bytes", "", []],
  ["not our alphabet", "data: žluťoučký 🐎\n\n", [["message", "žluťoučký 🐎"]]],
])("%s, in one piece and byte by byte", (_, stream, expected) => {
  const whole = new ServerEventReader().feed(encode(stream));
  expect(whole.map((event) => [event.name, event.data])).toEqual(expected);
  const reader = new ServerEventReader();
  const pieces = [...encode(stream)].flatMap((byte) => reader.feed(Uint8Array.of(byte)));
  expect(pieces.map((event) => [event.name, event.data])).toEqual(expected);
});
