/**
 * A person's rating of one caption. Stars are saved as they are given, words when they are sent; every save sends
 * the whole rating, because the service replaces what it had.
 */
import { type Ref, ref } from "vue";

import type { Api } from "@/api/client";
import { Problem } from "@/api/problem";
import type { Rating } from "@/api/schemas";

export type SaveState = "idle" | "saving" | "saved" | "failed";

export interface RatingDraft {
  stars: Ref<number>;
  correction: Ref<string>;
  comment: Ref<string>;
  state: Readonly<Ref<SaveState>>;
  problem: Readonly<Ref<Problem | null>>;
  save: () => Promise<void>;
}

const filled = (text: string): string | null => text.trim() || null;

export function useRating(
  api: Api,
  captionId: string,
  given: Rating | null,
  onSaved: (rating: Rating) => void,
): RatingDraft {
  const stars = ref(given?.stars ?? 0);
  const correction = ref(given?.correction ?? "");
  const comment = ref(given?.comment ?? "");
  const state = ref<SaveState>(given ? "saved" : "idle");
  const problem = ref<Problem | null>(null);
  let latest = 0;

  async function save(): Promise<void> {
    const mine = ++latest;
    state.value = "saving";
    problem.value = null;
    const draft = {
      stars: stars.value,
      correction: filled(correction.value),
      comment: filled(comment.value),
    };
    try {
      const saved = await api.rate(captionId, draft);
      onSaved(saved);
      if (mine === latest) state.value = "saved";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (mine !== latest) return;
      problem.value = error;
      state.value = "failed";
    }
  }

  return { stars, correction, comment, state, problem, save };
}
