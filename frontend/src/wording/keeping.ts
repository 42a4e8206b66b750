/** What becomes of a photo that is sent, in a sentence or two. */
import type { Keeping } from "@/api/schemas";

const days = (count: number): string => (count === 1 ? "1 day" : `${String(count)} days`);

/** @param keeping what the service says; null as long as it has not said it */
export function keepingSentence(keeping: Keeping | null, mayKeep: boolean): string {
  if (keeping?.keep === false) return "Nothing that you send is kept here, so captions cannot be rated.";
  if (!mayKeep) return "Your photo is captioned and forgotten, so you cannot rate the caption.";
  const long =
    keeping === null
      ? "for a while"
      : `for ${days(keeping.unrated_days)}, or ${days(keeping.rated_days)} once somebody has rated its caption`;
  return (
    "Your photo is kept without its metadata (place, time, camera) " +
    `${long}: the next model learns from photos and what people say of them. You can erase it at any time.`
  );
}
