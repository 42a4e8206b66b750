import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Problem } from "@/api/problem";
import type { Rating } from "@/api/schemas";
import { type Ratings, SETTLE_MS, createRatings } from "@/composables/useRatings";
import type { Shelf } from "@/composables/storage";

interface Call {
  rating: Rating;
  signal: AbortSignal | undefined;
  answer: (stored?: Rating) => void;
  refuse: (problem: Problem) => void;
}

function memory(): Shelf & { texts: Map<string, string> } {
  const texts = new Map<string, string>();
  return {
    texts,
    read: (key) => texts.get(key) ?? null,
    write(key, text) {
      if (text === "") texts.delete(key);
      else texts.set(key, text);
      return true;
    },
  };
}

/** Ratings before a service that the test answers by hand. */
function manual(shelf: Shelf = memory()): {
  calls: Call[];
  ratings: Ratings;
  saved: ReturnType<typeof vi.fn>;
} {
  const calls: Call[] = [];
  const saved = vi.fn();
  const rate = (_id: string, rating: Rating, signal?: AbortSignal): Promise<Rating> =>
    new Promise((resolve, reject) => {
      calls.push({ rating, signal, answer: (stored = rating) => resolve(stored), refuse: reject });
    });
  return { calls, saved, ratings: createRatings({ rate }, saved, shelf) };
}

const GIVEN: Rating = { stars: 3, correction: null, comment: null };
const sent = (calls: Call[]): Rating[] => calls.map(({ rating }) => rating);
const tick = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

describe("what somebody says of a caption", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("goes through blank, saving and saved when stars are given", async () => {
    const { calls, ratings, saved } = manual();
    const draft = ratings.of("c", null);
    expect(draft.state.value).toBe("blank");
    draft.stars.value = 4;
    expect(draft.state.value).toBe("saving");
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(draft.state.value).toBe("saving");
    calls[0]?.answer();
    await tick();
    expect(draft.state.value).toBe("saved");
    expect(saved).toHaveBeenCalledExactlyOnceWith("c", { stars: 4, correction: null, comment: null });
  });

  it("never sends words that are not finished, also not with other stars", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", { ...GIVEN, correction: "a whole sentence" });
    draft.correction.value = "half a sen";
    expect(draft.state.value).toBe("unsaved");
    draft.stars.value = 5;
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    calls[0]?.answer();
    await tick();
    expect(sent(calls)).toEqual([{ stars: 5, correction: "a whole sentence", comment: null }]);
    expect(draft.correction.value).toBe("half a sen");
    expect(draft.state.value).toBe("unsaved");
  });

  it("is not called saved while there are words that were not sent", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", GIVEN);
    expect(draft.state.value).toBe("saved");
    draft.correction.value = "a boat";
    expect(draft.state.value).toBe("unsaved");
    draft.save();
    expect(draft.state.value).toBe("saving");
    draft.correction.value = "a boat on";
    calls[0]?.answer();
    await tick();
    expect(draft.state.value).toBe("unsaved");
    draft.correction.value = "a boat";
    expect(draft.state.value).toBe("saved");
  });

  it("has one save under way, and the newest one after it", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", null);
    for (const stars of [1, 2, 3]) {
      draft.stars.value = stars;
      await vi.advanceTimersByTimeAsync(SETTLE_MS);
    }
    expect(sent(calls).map(({ stars }) => stars)).toEqual([1]);
    calls[0]?.answer();
    await tick();
    expect(sent(calls).map(({ stars }) => stars)).toEqual([1, 3]);
    expect(draft.state.value).toBe("saving");
    calls[1]?.answer();
    await tick();
    expect(draft.state.value).toBe("saved");
  });

  it("goes back to what the service has, if an older save is under way", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", GIVEN);
    draft.stars.value = 5;
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    draft.stars.value = 3;
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    calls[0]?.answer();
    await tick();
    expect(sent(calls).map(({ stars }) => stars)).toEqual([5, 3]);
  });

  it("shows what the service made of the words", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", GIVEN);
    draft.correction.value = "a   boat";
    draft.save();
    calls[0]?.answer({ ...GIVEN, correction: "a boat" });
    await tick();
    expect(draft.correction.value).toBe("a boat");
    expect(draft.state.value).toBe("saved");
    expect(calls).toHaveLength(1);
  });

  it("is sent at once, whole, when the page is left", () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", null);
    draft.stars.value = 2;
    draft.correction.value = "a boat";
    ratings.leave();
    ratings.leave();
    expect(sent(calls)).toEqual([{ stars: 2, correction: "a boat", comment: null }]);
  });

  it("takes back an older save when the page is left, so that the newest is the last", () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", null);
    draft.stars.value = 2;
    draft.save();
    draft.correction.value = "a boat";
    ratings.leave();
    expect(calls[0]?.signal?.aborted).toBe(true);
    expect(calls[1]?.rating.correction).toBe("a boat");
    expect(calls[1]?.signal?.aborted).toBe(false);
  });

  it("keeps the words of a save that failed, and tries again", async () => {
    const { calls, ratings } = manual();
    const draft = ratings.of("c", GIVEN);
    draft.correction.value = "a boat";
    draft.save();
    calls[0]?.refuse(new Problem("unreachable"));
    await tick();
    expect(draft.state.value).toBe("failed");
    expect(draft.problem.value?.kind).toBe("unreachable");
    expect(draft.correction.value).toBe("a boat");
    draft.save();
    expect(draft.state.value).toBe("saving");
    calls[1]?.answer();
    await tick();
    expect(draft.state.value).toBe("saved");
  });

  it("comes back at the next visit if it could not be sent, and is sent then", async () => {
    const shelf = memory();
    const first = manual(shelf);
    const draft = first.ratings.of("c", null);
    draft.stars.value = 2;
    draft.correction.value = "a boat";
    first.ratings.leave(); // and nobody answers

    const second = manual(shelf);
    second.ratings.resume();
    expect(sent(second.calls)).toEqual([{ stars: 2, correction: "a boat", comment: null }]);
    second.calls[0]?.answer();
    await tick();
    expect(second.ratings.of("c", null).state.value).toBe("saved");
    expect(shelf.texts.size).toBe(0);
  });

  it("comes back unsent if it was half typed when the tab went away without a word", () => {
    const shelf = memory();
    manual(shelf).ratings.of("c", GIVEN).correction.value = "half a sen";
    const second = manual(shelf);
    second.ratings.resume();
    expect(second.calls).toEqual([]);
    const draft = second.ratings.of("c", GIVEN);
    expect(draft.correction.value).toBe("half a sen");
    expect(draft.state.value).toBe("unsaved");
  });

  it("is forgotten with its caption", async () => {
    const shelf = memory();
    const { calls, ratings, saved } = manual(shelf);
    const draft = ratings.of("c", null);
    draft.stars.value = 2;
    draft.save();
    ratings.forget("c");
    calls[0]?.answer();
    await vi.runAllTimersAsync();
    expect(calls[0]?.signal?.aborted).toBe(true);
    expect(saved).not.toHaveBeenCalled();
    expect(shelf.texts.size).toBe(0);
  });

  it("is let go when its caption is gone at the next visit", async () => {
    const shelf = memory();
    const first = manual(shelf);
    first.ratings.of("c", null).stars.value = 2;
    first.ratings.leave();
    const second = manual(shelf);
    second.ratings.resume();
    second.calls[0]?.refuse(new Problem("refused", { status: 404 }));
    await vi.runAllTimersAsync();
    expect(shelf.texts.size).toBe(0);
  });
});
