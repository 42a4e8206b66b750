/** The photo's way from the hand to its caption: one stage at a time, and never two photos at once. */
import { type ShallowRef, shallowRef } from "vue";

import type { Api } from "@/api/client";
import { Problem } from "@/api/problem";
import type { Captioned } from "@/api/schemas";
import { type Photo, preparePhoto } from "@/photo/prepare";

export type Stage =
  | { name: "empty" }
  | { name: "working"; photoUrl: string | null; step: "preparing" | "sending" | "looking"; sent: number }
  | { name: "captioned"; photoUrl: string; result: Captioned; fresh: boolean }
  | { name: "failed"; photo: Photo | null; problem: Problem };

export interface Captioning {
  stage: Readonly<ShallowRef<Stage>>;
  /** Takes a photo, or the promise of one that must be fetched first. */
  start: (file: File | Promise<File>) => Promise<void>;
  retry: () => Promise<void>;
  /** Shows a caption that was made earlier. */
  show: (photoUrl: string, result: Captioned) => void;
  /** Back to the beginning; what is under way is cancelled. */
  clear: () => void;
}

/**
 * @param onCaptioned called once for every new caption, with where its photo can be read
 * @param mayKeep asked anew for every photo: whether the service may keep it
 * @param mayShare the same: whether others may see it
 */
export function useCaptioning(
  api: Api,
  onCaptioned: (photoUrl: string, result: Captioned) => void,
  prepare: (file: File) => Promise<Photo> = preparePhoto,
  mayKeep: () => boolean = () => true,
  mayShare: () => boolean = () => false,
): Captioning {
  const stage = shallowRef<Stage>({ name: "empty" });
  let held: Photo | null = null;
  let inFlight: AbortController | null = null;
  /** Cancelled when the service had the photo already: what it makes of it is erased as soon as its id is known. */
  const unwanted = new WeakSet<AbortController>();

  function letGo(): void {
    const arrived = stage.value.name === "working" && stage.value.step === "looking";
    if (inFlight && arrived) unwanted.add(inFlight);
    else inFlight?.abort();
    inFlight = null;
    if (held) URL.revokeObjectURL(held.url);
    held = null;
  }

  async function send(photo: Photo): Promise<void> {
    const mine = new AbortController();
    inFlight = mine;
    const onUpload = (sent: number): void => {
      if (inFlight !== mine) return;
      stage.value = { name: "working", photoUrl: photo.url, step: sent < 1 ? "sending" : "looking", sent };
    };
    onUpload(0);
    try {
      const result = await api.caption(photo.blob, photo.name, {
        signal: mine.signal,
        onUpload,
        keep: mayKeep(),
        share: mayShare(),
      });
      if (unwanted.has(mine) && result.caption_id !== null) await eraseUnwanted(result.caption_id);
      if (inFlight !== mine) return;
      inFlight = null;
      stage.value = { name: "captioned", photoUrl: photo.url, result, fresh: true };
      onCaptioned(photo.url, result);
    } catch (error) {
      if (inFlight !== mine) return;
      inFlight = null;
      fail(photo, error);
    }
  }

  async function eraseUnwanted(captionId: string): Promise<void> {
    try {
      await api.erase(captionId);
    } catch (error) {
      // It is on the list of one's captions, and can be erased there.
      if (!(error instanceof Problem)) throw error;
    }
  }

  function fail(photo: Photo | null, error: unknown): void {
    if (!(error instanceof Problem)) throw error;
    stage.value = { name: "failed", photo, problem: error };
  }

  return {
    stage,
    async start(file) {
      letGo();
      const preparing: Stage = { name: "working", photoUrl: null, step: "preparing", sent: 0 };
      stage.value = preparing;
      try {
        const photo = await prepare(await file);
        // Another photo was chosen, or this one was cancelled, while it was opened.
        if (stage.value !== preparing) {
          URL.revokeObjectURL(photo.url);
          return;
        }
        held = photo;
      } catch (error) {
        if (stage.value === preparing) fail(null, error);
        return;
      }
      await send(held);
    },
    async retry() {
      if (held) await send(held);
    },
    show(photoUrl, result) {
      letGo();
      stage.value = { name: "captioned", photoUrl, result, fresh: false };
    },
    clear() {
      letGo();
      stage.value = { name: "empty" };
    },
  };
}
