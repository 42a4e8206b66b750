/** What becomes of a photo that is sent, in a sentence or two. */
import type { Keeping } from "@/api/schemas";

import { t } from "./language";

/** @param keeping what the service says; null as long as it has not said it */
export function keepingSentence(keeping: Keeping | null, mayKeep: boolean): string {
  if (keeping?.keep === false) return t.keptNowhere;
  if (!mayKeep) return t.keptNever;
  return t.kept(keeping === null ? t.keptAWhile : t.keptDays(keeping.unrated_days, keeping.rated_days));
}
