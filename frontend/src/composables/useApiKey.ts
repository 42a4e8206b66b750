/** The API key, if the person has one: for this tab only, and gone when it is closed. */
import { type Ref, ref, watch } from "vue";

import { thisTab } from "./storage";

const KEY = "captionloop.key";

export function useApiKey(): Ref<string> {
  const key = ref(thisTab.read(KEY) ?? "");
  watch(key, (value) => thisTab.write(KEY, value));
  return key;
}
