/** Whether the service may keep photos that are sent; this browser remembers it. */
import { type Ref, ref, watch } from "vue";

import { type Shelf, thisBrowser } from "./storage";

const KEY = "captionloop.keep-nothing";

export function useMayKeep(shelf: Shelf = thisBrowser): Ref<boolean> {
  const mayKeep = ref(shelf.read(KEY) === null);
  watch(mayKeep, (value) => shelf.write(KEY, value ? "" : "yes"), { flush: "sync" });
  return mayKeep;
}
