/** The pictures of `public/examples/`, drawn by this project (`dev/draw_examples.py`). */
import { Problem } from "@/api/problem";
import { t } from "@/wording/language";

import listing from "./examples.json";

export interface Example {
  file: string;
  shows: string;
}

const SHOWS: Readonly<Record<string, string>> = t.shows;

export const EXAMPLES: readonly Example[] = listing.map(({ file, shows }) => ({
  file,
  shows: SHOWS[file] ?? shows,
}));

export async function fetchExample({ file }: Example): Promise<File> {
  const reply = await fetch(new URL(`examples/${file}`, document.baseURI)).catch(() => null);
  if (!reply?.ok) throw new Problem(navigator.onLine ? "unreachable" : "offline");
  return new File([await reply.blob()], file, { type: "image/webp" });
}
