/** A request as a command that sends it again. */

import type { Request } from "./egress";

/** Without the defaults that protojson spells out: they mean the same when absent. */
function withoutDefaults(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDefaults);
  if (typeof value !== "object" || value === null) return value;
  const isDefault = (one: unknown) =>
    one === null ||
    one === "" ||
    one === 0 ||
    one === "0" ||
    one === false ||
    (Array.isArray(one) && !one.length);
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) => (isDefault(one) ? [] : [[key, withoutDefaults(one)]])),
  );
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param api URL of the Egress API, without a slash at its end */
export function curlCommand(request: Request, api: string): string {
  return [
    `curl -X POST ${quoted(`${api}/twirp/livekit.Egress/${request.method}`)}`,
    `  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json'`,
    `  -d ${quoted(JSON.stringify(withoutDefaults(request.body), null, 2))}`,
  ].join(" \\\n");
}
