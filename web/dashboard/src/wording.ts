/** Formats quantities for people. */

export function duration(ms: number | null): string {
  if (ms === null) return "–";
  const seconds = Math.floor(ms / 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return seconds < 3600 ? clock : `${Math.floor(seconds / 3600)}:${clock}`;
}

export function bytes(count: number | null): string {
  if (count === null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** The local time; with the date unless it is today's. */
export function moment(ms: number | null, nowMs: number): string {
  if (ms === null) return "";
  const [at, now] = [new Date(ms), new Date(nowMs)];
  const day = at.toDateString() === now.toDateString() ? "" : `${at.toLocaleDateString()} `;
  return `${day}${at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
}

/** The local time to a second. */
export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
