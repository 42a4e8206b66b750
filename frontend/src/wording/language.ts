/**
 * The language of the page: the first of those that the browser asks for (its Accept-Language) in which there are
 * texts; English, if there is none. Chosen once, when the page is loaded.
 */
import { english } from "./english";
import { german } from "./german";

type Loose<T> = T extends string
  ? string
  : T extends (...parts: infer P) => string
    ? (...parts: P) => string
    : T extends readonly unknown[]
      ? { readonly [K in keyof T]: Loose<T[K]> }
      : { readonly [K in keyof T]: Loose<T[K]> };

/** What every language must have: the same names, and the same values to be put in. */
export type Texts = Loose<typeof english>;

export const LANGUAGES = {
  en: { texts: english, direction: "ltr" },
  de: { texts: german, direction: "ltr" },
} as const satisfies Record<string, { texts: Texts; direction: "ltr" | "rtl" }>;

export type Language = keyof typeof LANGUAGES;

export function chosenLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const name = tag.toLowerCase().split("-")[0] ?? "";
    if (Object.hasOwn(LANGUAGES, name)) return name as Language;
  }
  return "en";
}

export const language: Language = chosenLanguage(navigator.languages);

/** The page's texts. */
export const t: Texts = LANGUAGES[language].texts;

/** Tells browser and screen reader which language this is. */
export function applyLanguage(root: HTMLElement = document.documentElement): void {
  root.lang = language;
  root.dir = LANGUAGES[language].direction;
  document.querySelector("meta[name=description]")?.setAttribute("content", t.description);
}
