/**
 * What people say of captions: stars and words of one caption are one thing with one state.
 *
 * Stars are finished as soon as they are given. Words are finished when they are saved (button or Enter) or when
 * the caption, or the page, is left; until then nothing sends them. Saves of one caption go out one after the
 * other, the newest last. What the service has not confirmed is kept in this browser, and what was left behind is
 * sent again at the next visit.
 */
import * as v from "valibot";
import { type ComputedRef, type Ref, computed, effectScope, ref, watch } from "vue";

import type { Api } from "@/api/client";
import { Problem } from "@/api/problem";
import { type Rating, ratingSchema } from "@/api/schemas";

import { type Shelf, thisBrowser } from "./storage";

/** "saved": the service has exactly what is on the screen. "blank": nobody said anything yet. */
export type SaveState = "blank" | "unsaved" | "saving" | "saved" | "failed";

export interface RatingDraft {
  /** 0 as long as none are given. */
  stars: Ref<number>;
  correction: Ref<string>;
  comment: Ref<string>;
  state: ComputedRef<SaveState>;
  problem: Readonly<Ref<Problem | null>>;
  /** The words are finished: everything on the screen is saved. Does nothing without stars. */
  save: () => void;
  /** The caption is left: like `save`, but at once, without waiting for what is under way. */
  leave: () => void;
}

export interface Ratings {
  /** The draft of one caption, the same one every time. `given`: what the service is known to have. */
  of: (captionId: string, given: Rating | null) => RatingDraft;
  /** The page is left, or may be. */
  leave: () => void;
  /** Sends what was left behind by an earlier visit, or could not be sent while there was no network. */
  resume: () => void;
  /** The caption was erased. */
  forget: (captionId: string) => void;
  /** Nothing of what is written but not sent stays in this browser. */
  clear: () => void;
}

/** Long enough to move through the stars with the arrow keys without saving each one on the way. */
export const SETTLE_MS = 450;
const KEY = "captionloop.drafts.v1";

const keptSchema = v.object({ ...ratingSchema.entries, stars: v.number(), left: v.boolean() });
type Kept = v.InferOutput<typeof keptSchema>;
const allKeptSchema = v.pipe(v.string(), v.parseJson(), v.record(v.string(), keptSchema));

const filled = (text: string): string | null => text.trim() || null;
const same = (one: Rating | null, other: Rating | null): boolean =>
  one?.stars === other?.stars && one?.correction === other?.correction && one?.comment === other?.comment;

/** Drafts that the service has not confirmed, by caption. */
function keeper(shelf: Shelf): {
  all: () => Record<string, Kept>;
  put: (captionId: string, draft: Kept | null) => void;
} {
  const all = (): Record<string, Kept> => {
    const read = v.safeParse(allKeptSchema, shelf.read(KEY) ?? "{}");
    return read.success ? read.output : {};
  };
  return {
    all,
    put(captionId, draft) {
      const next = new Map(Object.entries(all()));
      if (draft) next.set(captionId, draft);
      else if (!next.delete(captionId)) return;
      shelf.write(KEY, next.size === 0 ? "" : JSON.stringify(Object.fromEntries(next)));
    },
  };
}

interface Draft extends RatingDraft {
  /** Sends once more what failed, without calling half-typed words finished. */
  again: () => void;
  forget: () => void;
}

function createDraft(
  send: (rating: Rating, signal: AbortSignal) => Promise<Rating>,
  given: Rating | null,
  kept: Kept | null,
  onSaved: (rating: Rating) => void,
  keep: (draft: Kept | null) => void,
): Draft {
  const shown = kept ?? given;
  const stars = ref(shown?.stars ?? 0);
  const correction = ref(shown?.correction ?? "");
  const comment = ref(shown?.comment ?? "");
  const problem = ref<Problem | null>(null);
  /** What the service has confirmed last. */
  const confirmed = ref<Rating | null>(given);
  /** The last words that somebody called finished. */
  const words = ref({ correction: given?.correction ?? null, comment: given?.comment ?? null });
  const underWay = ref<Rating | null>(null);
  const settling = ref(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stop = new AbortController();
  let forgotten = false;

  const onScreen = computed<Rating>(() => ({
    stars: stars.value,
    correction: filled(correction.value),
    comment: filled(comment.value),
  }));
  const finished = computed<Rating>(() => ({ stars: stars.value, ...words.value }));

  const state = computed<SaveState>(() => {
    const { correction: better, comment: remark } = onScreen.value;
    const halfTyped = !same(onScreen.value, finished.value);
    if (settling.value || underWay.value !== null) return halfTyped ? "unsaved" : "saving";
    if (same(onScreen.value, confirmed.value)) return "saved";
    if (problem.value) return "failed";
    return stars.value === 0 && better === null && remark === null ? "blank" : "unsaved";
  });

  function keepDraft(left: boolean): void {
    if (!forgotten) keep(same(onScreen.value, confirmed.value) ? null : { ...onScreen.value, left });
  }

  function settleNow(): void {
    clearTimeout(timer);
    settling.value = false;
  }

  function finishWords(): void {
    words.value = { correction: onScreen.value.correction, comment: onScreen.value.comment };
  }

  /** Saves what is finished, and again until nothing newer is: one request at a time. */
  async function push(): Promise<void> {
    if (underWay.value !== null || forgotten) return;
    while (stars.value !== 0 && !same(finished.value, confirmed.value)) {
      const mine = new AbortController();
      const sent = { ...finished.value };
      stop = mine;
      underWay.value = sent;
      problem.value = null;
      try {
        const stored = await send(sent, mine.signal);
        if (stop !== mine || forgotten) return; // the page was left meanwhile: a newer request took over
        settled(sent, { stars: stored.stars, correction: stored.correction, comment: stored.comment });
      } catch (error) {
        if (stop !== mine || forgotten) return;
        underWay.value = null;
        if (!(error instanceof Problem)) throw error;
        if (!same(sent, finished.value) && !settling.value) continue; // there is something newer to try
        problem.value = error;
        return;
      }
      if (settling.value) return;
    }
  }

  /** The service cleans words: what it stored is shown, unless somebody has typed on. */
  function settled(sent: Rating, stored: Rating): void {
    underWay.value = null;
    confirmed.value = stored;
    for (const [name, field] of [
      ["correction", correction],
      ["comment", comment],
    ] as const) {
      if (words.value[name] === sent[name]) words.value = { ...words.value, [name]: stored[name] };
      if (filled(field.value) === sent[name]) field.value = stored[name] ?? "";
    }
    keepDraft(false);
    onSaved(stored);
  }

  watch(
    stars,
    () => {
      settleNow();
      settling.value = true;
      timer = setTimeout(() => {
        settling.value = false;
        void push();
      }, SETTLE_MS);
    },
    { flush: "sync" },
  );
  watch(onScreen, () => keepDraft(false), { flush: "sync" });

  return {
    stars,
    correction,
    comment,
    state,
    problem,
    save() {
      finishWords();
      settleNow();
      void push();
    },
    leave() {
      settleNow();
      if (forgotten || same(onScreen.value, confirmed.value)) {
        if (underWay.value === null) return;
      }
      finishWords();
      keepDraft(true);
      if (underWay.value !== null && !same(underWay.value, finished.value)) {
        // No time to wait for the older one: it is taken back, and the newer one goes now.
        const older = stop;
        underWay.value = null;
        stop = new AbortController();
        older.abort();
        confirmed.value = null;
      }
      void push();
    },
    again() {
      void push();
    },
    forget() {
      forgotten = true;
      settleNow();
      stop.abort();
      keep(null);
    },
  };
}

/** @param onSaved called with every rating that the service confirmed, also after its caption was left */
export function createRatings(
  api: Pick<Api, "rate">,
  onSaved: (captionId: string, rating: Rating) => void,
  shelf: Shelf = thisBrowser,
): Ratings {
  const drafts = new Map<string, Draft>();
  const kept = keeper(shelf);
  // Of no component: a save goes on when its form is gone.
  const scope = effectScope(true);

  function made(captionId: string, given: Rating | null): Draft {
    return createDraft(
      (rating, signal) => api.rate(captionId, rating, signal),
      given,
      kept.all()[captionId] ?? null,
      (rating) => onSaved(captionId, rating),
      (unsaved) => kept.put(captionId, unsaved),
    );
  }

  function of(captionId: string, given: Rating | null): Draft {
    const draft = drafts.get(captionId) ?? scope.run(() => made(captionId, given));
    if (!draft) throw new Error("the scope of the ratings was stopped");
    drafts.set(captionId, draft);
    return draft;
  }

  function forget(captionId: string): void {
    drafts.get(captionId)?.forget();
    drafts.delete(captionId);
    kept.put(captionId, null);
  }

  return {
    of,
    leave() {
      for (const draft of drafts.values()) draft.leave();
    },
    resume() {
      for (const draft of drafts.values()) if (draft.state.value === "failed") draft.again();
      for (const [captionId, { left }] of Object.entries(kept.all())) {
        if (!left) continue;
        if (drafts.has(captionId)) continue;
        const draft = of(captionId, null);
        draft.save();
        scope.run(() => {
          // Erased meanwhile, or another person's by now: there is nothing left to be saved.
          watch(draft.problem, (problem) => {
            if (problem?.refusal?.status === 404) forget(captionId);
          });
        });
      }
    },
    forget,
    clear() {
      shelf.write(KEY, "");
    },
  };
}
