/**
 * Which word of the caption is looked into. A pointer passing over a word wins, then the walk through the words,
 * then the word that was chosen by a tap or with the keyboard.
 */
import { type ComputedRef, type Ref, computed, onScopeDispose, ref } from "vue";

const STEP_MS = 950;

export interface WordFocus {
  active: ComputedRef<number | null>;
  chosen: Readonly<Ref<number | null>>;
  choose: (index: number | null) => void;
  hover: (index: number | null) => void;
  walking: ComputedRef<boolean>;
  walk: () => void;
  stop: () => void;
}

export function useWordFocus(length: () => number): WordFocus {
  const chosen = ref<number | null>(null);
  const hovered = ref<number | null>(null);
  const walked = ref<number | null>(null);
  let timer: ReturnType<typeof setInterval> | undefined;

  function stop(): void {
    clearInterval(timer);
    walked.value = null;
  }

  function walk(): void {
    stop();
    chosen.value = null;
    walked.value = 0;
    timer = setInterval(() => {
      const next = (walked.value ?? 0) + 1;
      if (next < length()) walked.value = next;
      else stop();
    }, STEP_MS);
  }

  onScopeDispose(stop);
  return {
    active: computed(() => hovered.value ?? walked.value ?? chosen.value),
    chosen,
    choose(index) {
      stop();
      chosen.value = index;
    },
    hover(index) {
      if (index !== null) stop();
      hovered.value = index;
    },
    walking: computed(() => walked.value !== null),
    walk,
    stop,
  };
}
