import { type Ref, onScopeDispose, ref } from "vue";

/** Whole seconds left, counting down to 0. Bound to the clock, so that a tab asleep does not fall behind. */
export function useCountdown(seconds: number): Readonly<Ref<number>> {
  const end = Date.now() + seconds * 1000;
  const left = ref(Math.ceil(seconds));
  const timer = setInterval(() => {
    left.value = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    if (left.value === 0) clearInterval(timer);
  }, 250);
  onScopeDispose(() => clearInterval(timer));
  return left;
}
