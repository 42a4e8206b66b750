/** A caption leaves the page: into the clipboard, or to wherever the device shares things. */

/** What became of it. "cancelled": the person chose nothing to share it with. */
export type Shared = "shared" | "copied" | "cancelled" | "failed";

export interface Sharing {
  /** Whether this browser shares; where it does not, `share` copies. */
  canShare: boolean;
  copy: (text: string) => Promise<Shared>;
  share: (text: string) => Promise<Shared>;
}

/** For pages that are not served over https, which have no clipboard. */
function copyBySelection(text: string): boolean {
  const field = document.createElement("textarea");
  field.value = text;
  field.readOnly = true;
  field.className = "visually-hidden";
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    if (before instanceof HTMLElement) before.focus();
  }
}

export function useSharing(): Sharing {
  const canShare = typeof (navigator as Partial<Navigator>).share === "function";

  async function copy(text: string): Promise<Shared> {
    const { clipboard } = navigator as Partial<Navigator>;
    try {
      if (clipboard) {
        await clipboard.writeText(text);
        return "copied";
      }
    } catch {
      // Not allowed: the old way may be.
    }
    return copyBySelection(text) ? "copied" : "failed";
  }

  async function share(text: string): Promise<Shared> {
    if (!canShare) return copy(text);
    try {
      await navigator.share({ text });
      return "shared";
    } catch (error) {
      return error instanceof DOMException && error.name === "AbortError" ? "cancelled" : copy(text);
    }
  }

  return { canShare, copy, share };
}
