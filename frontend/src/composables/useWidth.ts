/** The width of an element in CSS pixels: charts are drawn at their real size, so that their text is too. */
import { type Ref, type ShallowRef, onMounted, onScopeDispose, ref } from "vue";

export function useWidth(
  element: Readonly<ShallowRef<Element | null>>,
  initial: number,
): Readonly<Ref<number>> {
  const width = ref(initial);
  const observer = new ResizeObserver((entries) => {
    const measured = entries[0]?.contentRect.width ?? 0;
    if (measured > 0) width.value = measured;
  });
  onMounted(() => {
    if (element.value) observer.observe(element.value);
  });
  onScopeDispose(() => observer.disconnect());
  return width;
}
