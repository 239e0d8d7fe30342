// Prints what mp4box.js finds in an MP4, as JSON: its boxes, tracks and samples. Fails on one it cannot read.
import { readFileSync } from "node:fs";
import { createFile } from "mp4box";

const bytes = readFileSync(process.argv[2]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
buffer.fileStart = 0;
const file = createFile();
file.onError = (module, message) => {
  throw new Error(`${module}: ${message}`);
};
let info;
file.onReady = (found) => {
  info = found;
};
file.appendBuffer(buffer);
file.flush();

const boxes = (list, path) =>
  list.flatMap((box) => [
    { path: `${path}${box.type}`, start: box.start, size: box.size, unread: Boolean(box.has_unparsed_data) },
    ...boxes([...(box.boxes ?? []), ...(box.type === "stsd" ? box.entries : [])], `${path}${box.type}/`),
  ]);
const box = (root, ...path) =>
  path.reduce((found, type) => found?.boxes?.find((child) => child.type === type), root);

const tracks = file.moov.traks.map((trak) => {
  const table = box(trak, "mdia", "minf", "stbl");
  const samples = file.getTrackSamplesInfo(trak.tkhd.track_id);
  return {
    timescale: box(trak, "mdia", "mdhd").timescale,
    size: [trak.tkhd.width / 65536, trak.tkhd.height / 65536],
    edits: (box(trak, "edts", "elst")?.entries ?? []).map((edit) => [edit.segment_duration, edit.media_time]),
    entries: box(table, "stsd").entries.map((entry) => ({
      type: entry.type,
      size: entry.width ? [entry.width, entry.height] : null,
      parameterSets: entry.avcC?.SPS?.length ?? entry.hvcC?.nalu_arrays?.length ?? null,
    })),
    samples: samples.map((sample) => ({
      dts: sample.dts,
      cts: sample.cts,
      duration: sample.duration,
      key: sample.is_sync,
      entry: sample.description_index,
      offset: sample.offset,
      size: sample.size,
    })),
  };
});
console.log(
  JSON.stringify({
    brands: [file.ftyp.major_brand, ...file.ftyp.compatible_brands],
    fragmented: info.isFragmented,
    timescale: info.timescale,
    boxes: boxes(file.boxes, ""),
    tracks,
  }),
);
