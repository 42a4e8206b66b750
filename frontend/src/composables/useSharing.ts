/** A caption leaves the page: into the clipboard, or to wherever the device shares things. */

/** What became of it. "cancelled": the person chose nothing to share it with. */
export type Shared = "shared" | "copied" | "cancelled" | "failed";

export interface Sharing {
  /** Whether this browser shares; where it does not, `share` copies. */
  canShare: boolean;
  /** `language`: of the text, for programs that take what is copied with its markup. */
  copy: (text: string, language: string | null) => Promise<Shared>;
  share: (text: string, language: string | null) => Promise<Shared>;
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

function marked(text: string, language: string): string {
  const span = document.createElement("span");
  span.lang = language;
  span.dir = "auto";
  span.textContent = text;
  return span.outerHTML;
}

/** Writes the text, and beside it the same as HTML that says its language, where the browser takes both. */
async function write(clipboard: Clipboard, text: string, language: string | null): Promise<void> {
  const Item = (globalThis as { ClipboardItem?: typeof ClipboardItem }).ClipboardItem;
  if (language !== null && Item !== undefined) {
    try {
      await clipboard.write([new Item({ "text/plain": text, "text/html": marked(text, language) })]);
      return;
    } catch {
      // Older browsers take blobs only, or no HTML: the text alone.
    }
  }
  await clipboard.writeText(text);
}

export function useSharing(): Sharing {
  const canShare = typeof (navigator as Partial<Navigator>).share === "function";

  async function copy(text: string, language: string | null): Promise<Shared> {
    const { clipboard } = navigator as Partial<Navigator>;
    try {
      if (clipboard) {
        await write(clipboard, text, language);
        return "copied";
      }
    } catch {
      // Not allowed: the old way may be.
    }
    return copyBySelection(text) ? "copied" : "failed";
  }

  async function share(text: string, language: string | null): Promise<Shared> {
    if (!canShare) return copy(text, language);
    try {
      await navigator.share({ text });
      return "shared";
    } catch (error) {
      return error instanceof DOMException && error.name === "AbortError"
        ? "cancelled"
        : copy(text, language);
    }
  }

  return { canShare, copy, share };
}
