/** Whether others may see photos that are sent, to rate their captions: nobody's who has not said so. */
import { type Ref, ref, watch } from "vue";

import { type Shelf, thisBrowser } from "./storage";

const KEY = "captionloop.share";

export function useMayShare(shelf: Shelf = thisBrowser): Ref<boolean> {
  const mayShare = ref(shelf.read(KEY) === "yes");
  watch(mayShare, (value) => shelf.write(KEY, value ? "yes" : ""), { flush: "sync" });
  return mayShare;
}
