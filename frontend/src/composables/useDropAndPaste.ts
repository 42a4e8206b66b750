/** A picture dropped anywhere on the page, or pasted into it. */
import { type Ref, onScopeDispose, ref } from "vue";

const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;

/** @returns whether something is being dragged over the page right now */
export function useDropAndPaste(take: (file: File) => void): Readonly<Ref<boolean>> {
  const over = ref(false);

  function onDragOver(event: DragEvent): void {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over.value = true;
  }

  function onDragLeave(event: DragEvent): void {
    // Only leaving the window counts; moving from one element to the next inside it does not.
    if (event.relatedTarget === null) over.value = false;
  }

  function onDrop(event: DragEvent): void {
    over.value = false;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  }

  function onPaste(event: ClipboardEvent): void {
    const file = Array.from(event.clipboardData?.files ?? []).find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  }

  addEventListener("dragover", onDragOver);
  addEventListener("dragleave", onDragLeave);
  addEventListener("drop", onDrop);
  addEventListener("paste", onPaste);
  onScopeDispose(() => {
    removeEventListener("dragover", onDragOver);
    removeEventListener("dragleave", onDragLeave);
    removeEventListener("drop", onDrop);
    removeEventListener("paste", onPaste);
  });
  return over;
}
