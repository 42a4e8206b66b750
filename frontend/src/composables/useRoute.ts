/** Two pages, told apart by the address's hash, so that any static file server can serve them. */
import { type Ref, onScopeDispose, ref } from "vue";

export type Page = "caption" | "model";

const read = (): Page => (location.hash.startsWith("#/model") ? "model" : "caption");

export function useRoute(): Readonly<Ref<Page>> {
  const page = ref<Page>(read());
  const update = (): void => {
    page.value = read();
  };
  addEventListener("hashchange", update);
  onScopeDispose(() => removeEventListener("hashchange", update));
  return page;
}
