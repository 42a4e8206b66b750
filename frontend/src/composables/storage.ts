/** A browser's storage that never throws: where it is full or forbidden, things are remembered for the tab only. */
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

export const thisBrowser = shelf(() => localStorage);
export const thisTab = shelf(() => sessionStorage);
