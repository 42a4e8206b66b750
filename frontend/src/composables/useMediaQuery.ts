import { type Ref, onScopeDispose, ref } from "vue";

export function useMediaQuery(query: string): Readonly<Ref<boolean>> {
  const media = matchMedia(query);
  const matches = ref(media.matches);
  const update = (): void => {
    matches.value = media.matches;
  };
  media.addEventListener("change", update);
  onScopeDispose(() => media.removeEventListener("change", update));
  return matches;
}

export const useReducedMotion = (): Readonly<Ref<boolean>> =>
  useMediaQuery("(prefers-reduced-motion: reduce)");
