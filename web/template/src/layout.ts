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

const PREFIXES = ["single-speaker", "speaker"] as const satisfies readonly Arrangement[];

/**
 * The layout of this name, or the nearest, as upstream's template has it: by how the name begins, and whether it
 * ends in -light. As in openegress.core.layouts, which says the same of rooms that are laid out without a page.
 */
export function parseLayout(name: string): Layout {
  const theme = name.endsWith("-light") ? "light" : "dark";
  return { arrangement: PREFIXES.find((known) => name.startsWith(known)) ?? "grid", theme };
}

/** The notice about a name that parseLayout had to guess; "" for a known one. */
export function takenFor(name: string): string {
  if (name === "" || LAYOUT_NAMES.includes(name)) return "";
  const { arrangement, theme } = parseLayout(name);
  const taken = theme === "light" ? `${arrangement}-light` : arrangement;
  return `layout ${JSON.stringify(name)} is unknown and taken for ${taken}; there are ${LAYOUT_NAMES.join(", ")}`;
}

/**
 * The layout name in the participant metadata; null when it contains none. Names that begin with @
 * are orders for a recorder (@pause) rather than layouts; so are the options after a "?".
 */
export function layoutInMetadata(metadata: string | undefined): string | null {
  if (!metadata) return null;
  try {
    const parsed: unknown = JSON.parse(metadata);
    if (typeof parsed !== "object" || parsed === null || !("layout" in parsed)) return null;
    if (typeof parsed.layout !== "string" || /^[@?]/.test(parsed.layout)) return null;
    return parsed.layout.replace(/\?.*/s, "");
  } catch {
    // Metadata is free text for its users; only JSON with a layout is for us.
    return null;
  }
}
