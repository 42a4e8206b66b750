/** Whether others may see photos that are sent, to rate their captions: nobody's who has not said so. */
import type { Ref } from "vue";

import { type Shelf, remembered, thisBrowser } from "./storage";

export function useMayShare(shelf: Shelf = thisBrowser): Ref<boolean> {
  return remembered(shelf, "captionloop.share", true);
}
