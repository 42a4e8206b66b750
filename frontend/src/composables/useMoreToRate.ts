/** Other people's captions to rate, one after the other, for as long as somebody wants to. */
import { type ShallowRef, onScopeDispose, shallowRef, watch } from "vue";

import type { Api } from "@/api/client";
import { Problem } from "@/api/problem";
import type { ToRate } from "@/api/schemas";

import type { RatingDraft, Ratings } from "./useRatings";

export type More =
  | { name: "closed" }
  | { name: "loading" }
  | { name: "shown"; what: ToRate; photoUrl: string; draft: RatingDraft }
  | { name: "nothing" }
  | { name: "failed"; problem: Problem };

export interface MoreToRate {
  stage: Readonly<ShallowRef<More>>;
  /** The first one, the next one, or once more after a problem. What has no stars is skipped. */
  next: () => Promise<void>;
  stop: () => void;
}

/** Settled when the draft's save has come to its end, whatever that is. */
function saved(draft: RatingDraft): Promise<void> {
  return new Promise((resolve) => {
    const end = watch(
      draft.state,
      (state) => {
        if (state === "saving") return;
        resolve();
        // Called at once, it has no handle to stop by yet.
        queueMicrotask(() => end());
      },
      { immediate: true, flush: "sync" },
    );
  });
}

export function useMoreToRate(api: Pick<Api, "nextToRate" | "photoToRate">, ratings: Ratings): MoreToRate {
  const stage = shallowRef<More>({ name: "closed" });

  function letGo(to: More): void {
    if (stage.value.name === "shown") URL.revokeObjectURL(stage.value.photoUrl);
    stage.value = to;
  }

  /** What is shown is rated, and that is saved, or it is to be skipped: then its id. False: it must stay. */
  async function finished(now: Extract<More, { name: "shown" }>): Promise<string | null | false> {
    if (now.draft.stars.value === 0) return now.what.caption_id;
    now.draft.save();
    await saved(now.draft);
    return now.draft.state.value === "saved" ? null : false;
  }

  const isAt = (one: More): boolean => stage.value === one;

  async function next(): Promise<void> {
    const before = stage.value;
    if (before.name === "loading") return;
    const skip = before.name === "shown" ? await finished(before) : null;
    if (skip === false || !isAt(before)) return;
    const loading: More = { name: "loading" };
    letGo(loading);
    try {
      const what = await api.nextToRate(skip);
      const photo = what === null ? null : await api.photoToRate(what.caption_id);
      if (!isAt(loading)) return;
      stage.value =
        what === null || photo === null
          ? { name: "nothing" }
          : {
              name: "shown",
              what,
              photoUrl: URL.createObjectURL(photo),
              draft: ratings.of(what.caption_id, null),
            };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (isAt(loading)) stage.value = { name: "failed", problem: error };
    }
  }

  onScopeDispose(() => letGo({ name: "closed" }));
  return { stage, next, stop: () => letGo({ name: "closed" }) };
}
