/** Light, dark, or as the system says; remembered in this browser. */
import { type Ref, ref, watchEffect } from "vue";

import { thisBrowser } from "./storage";

const KEY = "captionloop.theme";
export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function useTheme(): Ref<Theme> {
  const remembered = thisBrowser.read(KEY);
  const theme = ref<Theme>(THEMES.find((name) => name === remembered) ?? "system");
  watchEffect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    thisBrowser.write(KEY, theme.value === "system" ? "" : theme.value);
  });
  return theme;
}
