/** What a screen reader should hear without moving the focus; App.vue holds the one live region. */
import { type Ref, nextTick, ref } from "vue";

const message = ref("");

export function useAnnouncer(): { message: Readonly<Ref<string>>; announce: (text: string) => void } {
  return {
    message,
    announce(text) {
      // Emptied first: the same sentence twice in a row would otherwise be silent the second time.
      message.value = "";
      void nextTick(() => (message.value = text));
    },
  };
}
