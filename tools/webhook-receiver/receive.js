// Reads one webhook as JSON {key, secret, body, authorization} on standard input, verifies it with LiveKit's
// own receiver, and prints the event it saw.
import { readFileSync } from "node:fs";
import { WebhookReceiver } from "livekit-server-sdk";

const { key, secret, body, authorization } = JSON.parse(readFileSync(0, "utf8"));
const event = await new WebhookReceiver(key, secret).receive(body, authorization);
console.log(
  JSON.stringify({
    event: event.event,
    id: event.id,
    createdAt: String(event.createdAt),
    room: event.room?.name,
    egressId: event.egressInfo?.egressId,
    status: event.egressInfo?.status,
    duration: String(event.egressInfo?.fileResults[0]?.duration),
  }),
);
