/** What a screen reader should hear without moving the focus; App.vue holds the one live region. */
import { type ComputedRef, type Ref, computed, nextTick, ref } from "vue";

/** A piece of what is said, and its language where that is not the page's. */
export interface Said {
  text: string;
  language: string | null;
}

/** Stands in a sentence where a caption is to be said. */
export const CAPTION = "\uFFFC";

const parts = ref<Said[]>([]);
const message = computed(() => parts.value.map(({ text }) => text).join(""));

export function useAnnouncer(): {
  parts: Readonly<Ref<readonly Said[]>>;
  message: ComputedRef<string>;
  /** Says a sentence of the page; at `CAPTION` in it, a caption in a language of its own. */
  announce: (sentence: string, caption?: Said) => void;
} {
  return {
    parts,
    message,
    announce(sentence, caption) {
      const said = sentence.split(CAPTION).map((text): Said => ({ text, language: null }));
      if (caption) said.splice(1, 0, caption);
      // Emptied first: the same sentence twice in a row would otherwise be silent the second time.
      parts.value = [];
      void nextTick(() => (parts.value = said));
    },
  };
}
