/** A browser's storage that never throws: where it is full or forbidden, things are remembered for the tab only. */
import { type Ref, ref, watch } from "vue";

export interface Shelf {
  read: (key: string) => string | null;
  /** @returns whether it is stored; an empty text removes the entry */
  write: (key: string, text: string) => boolean;
}

function shelf(storage: () => Storage): Shelf {
  return {
    read(key) {
      try {
        return storage().getItem(key);
      } catch {
        return null;
      }
    },
    write(key, text) {
      try {
        if (text === "") storage().removeItem(key);
        else storage().setItem(key, text);
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** A choice that is remembered: the entry is there where it is `whenStored`. */
export function remembered(shelf: Shelf, key: string, whenStored: boolean): Ref<boolean> {
  const choice = ref((shelf.read(key) !== null) === whenStored);
  watch(choice, (value) => shelf.write(key, value === whenStored ? "yes" : ""), { flush: "sync" });
  return choice;
}

export const thisBrowser = shelf(() => localStorage);
export const thisTab = shelf(() => sessionStorage);
