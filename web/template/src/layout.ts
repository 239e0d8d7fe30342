/** Layout names of the Egress API: an arrangement and a theme, as in "grid", "speaker-light". */

export const ARRANGEMENTS = ["grid", "speaker", "single-speaker"] as const;

export type Arrangement = (typeof ARRANGEMENTS)[number];
export type Theme = "dark" | "light";

export interface Layout {
  readonly arrangement: Arrangement;
  readonly theme: Theme;
}

export const LAYOUT_NAMES: readonly string[] = ARRANGEMENTS.flatMap((name) => [
  name,
  `${name}-dark`,
  `${name}-light`,
]);

export const DEFAULT_LAYOUT: Layout = { arrangement: "grid", theme: "dark" };

/** The layout of this name, the default for an empty one, null for an unknown one. */
export function parseLayout(name: string): Layout | null {
  if (name === "") return DEFAULT_LAYOUT;
  const [, base, theme] = /^(.*?)(?:-(dark|light))?$/.exec(name) ?? [];
  const arrangement = ARRANGEMENTS.find((known) => known === base);
  return arrangement ? { arrangement, theme: theme === "light" ? "light" : "dark" } : null;
}

export function unknownLayout(name: string): string {
  return `layout ${JSON.stringify(name)} is unknown; use one of ${LAYOUT_NAMES.join(", ")}`;
}

/** The layout name that participant metadata asks for; null when it says nothing about layout. */
export function layoutInMetadata(metadata: string | undefined): string | null {
  if (!metadata) return null;
  try {
    const parsed: unknown = JSON.parse(metadata);
    if (typeof parsed !== "object" || parsed === null || !("layout" in parsed)) return null;
    return typeof parsed.layout === "string" ? parsed.layout : null;
  } catch {
    // Metadata is free text for its user; only JSON with a layout is meant for us.
    return null;
  }
}
