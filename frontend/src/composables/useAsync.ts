/** One answer of the service: awaited, there, or a problem. */
import { type ShallowRef, shallowRef } from "vue";

import { Problem } from "@/api/problem";

export type Load<T> =
  { state: "loading" } | { state: "ready"; value: T } | { state: "failed"; problem: Problem };

export function useAsync<T>(load: () => Promise<T>): {
  answer: ShallowRef<Load<T>>;
  reload: () => Promise<void>;
} {
  const answer = shallowRef<Load<T>>({ state: "loading" });
  async function reload(): Promise<void> {
    answer.value = { state: "loading" };
    try {
      answer.value = { state: "ready", value: await load() };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      answer.value = { state: "failed", problem: error };
    }
  }
  void reload();
  return { answer, reload };
}
