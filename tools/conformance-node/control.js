// Steers a recording with LiveKit's Node SDK as it is. Prints the status it ends with, and its details.
// LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... node control.js URL ROOM
// Somebody must publish in the room.
import { EgressClient, EgressStatus, EncodedFileOutput } from "livekit-server-sdk";

const [url, room] = process.argv.slice(2);
const { LIVEKIT_API_KEY: apiKey, LIVEKIT_API_SECRET: apiSecret } = process.env;
const client = new EgressClient(url, apiKey, apiSecret);
const everyMs = 100;
const withinMs = 20_000;

async function until(egressId, isSo) {
  for (const endMs = Date.now() + withinMs; Date.now() < endMs; ) {
    const [info] = await client.listEgress({ egressId });
    if (isSo(info)) return info;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  throw new Error(`not within ${withinMs} ms: ${isSo}`);
}

const isPaused = (info) => info.details.split("; ").includes("Paused");
const file = new EncodedFileOutput({ filepath: `${room}-node.mp4` });
const layout = "grid?max_duration=1h&stop_when_silent=10m";
const { egressId } = await client.startRoomCompositeEgress(room, { file }, { layout });
await until(egressId, (info) => info.status === EgressStatus.EGRESS_ACTIVE);
await client.updateLayout(egressId, "@pause");
await until(egressId, isPaused);
await client.updateLayout(egressId, "@resume");
await until(egressId, (info) => !isPaused(info));
await client.updateLayout(egressId, "speaker?max_duration=1s");
const ended = await until(egressId, (info) => info.status > EgressStatus.EGRESS_ENDING);
console.log(EgressStatus[ended.status], ended.details);
