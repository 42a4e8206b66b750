/** Whether the service may keep photos that are sent; this browser remembers it. */
import type { Ref } from "vue";

import { type Shelf, remembered, thisBrowser } from "./storage";

export function useMayKeep(shelf: Shelf = thisBrowser): Ref<boolean> {
  return remembered(shelf, "captionloop.keep-nothing", false);
}
