/** Whether large photos are made smaller before they are sent; this browser remembers it. */
import type { Ref } from "vue";

import { type Shelf, remembered, thisBrowser } from "./storage";

export function useMakeSmaller(shelf: Shelf = thisBrowser): Ref<boolean> {
  return remembered(shelf, "captionloop.full-size", false);
}
