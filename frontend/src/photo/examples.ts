/** The pictures of `public/examples/`, drawn by this project (`dev/draw_examples.py`). */
import { Problem } from "@/api/problem";

import listing from "./examples.json";

export interface Example {
  file: string;
  shows: string;
}

export const EXAMPLES: readonly Example[] = listing;

export async function fetchExample({ file }: Example): Promise<File> {
  const reply = await fetch(new URL(`examples/${file}`, document.baseURI)).catch(() => null);
  if (!reply?.ok) throw new Problem(navigator.onLine ? "unreachable" : "offline");
  return new File([await reply.blob()], file, { type: "image/webp" });
}
