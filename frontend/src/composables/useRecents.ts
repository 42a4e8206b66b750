/** The last captions of this browser, kept in it and nowhere else. */
import * as v from "valibot";
import { type Ref, ref } from "vue";

import { type Captioned, type Rating, captionedSchema, ratingSchema } from "@/api/schemas";

import { type Shelf, thisBrowser } from "./storage";

const KEY = "captionloop.recents.v1";
const MOST = 12;

const recentSchema = v.object({
  result: captionedSchema,
  thumbnail: v.pipe(v.string(), v.startsWith("data:image/")),
  rating: v.nullable(ratingSchema),
});

export type Recent = v.InferOutput<typeof recentSchema>;

export interface Recents {
  list: Readonly<Ref<readonly Recent[]>>;
  add: (result: Captioned, thumbnail: string) => void;
  rated: (captionId: string, rating: Rating) => void;
  forget: (captionId: string) => void;
  clear: () => void;
}

function read(shelf: Shelf): Recent[] {
  const stored = v.safeParse(
    v.pipe(v.string(), v.parseJson(), v.array(recentSchema)),
    shelf.read(KEY) ?? "[]",
  );
  return stored.success ? stored.output : [];
}

/** Attention needs two digits here, not seventeen: twelve captions stay far below the storage's limit. */
function slim(result: Captioned): Captioned {
  const round = (weight: number): number => Math.round(weight * 1e4) / 1e4;
  const words = result.words.map((word) => ({
    ...word,
    attention: word.attention?.map((row) => row.map(round)) ?? null,
  }));
  return { ...result, words };
}

export function useRecents(shelf: Shelf = thisBrowser): Recents {
  const list = ref<Recent[]>(read(shelf));

  function keep(recents: Recent[]): void {
    list.value = recents;
    const stored = shelf.write(KEY, recents.length === 0 ? "" : JSON.stringify(recents));
    // Full: the older half makes room.
    if (!stored && recents.length > 1) keep(recents.slice(0, Math.ceil(recents.length / 2)));
  }

  return {
    list,
    add(result, thumbnail) {
      const others = list.value.filter((recent) => recent.result.caption_id !== result.caption_id);
      keep([{ result: slim(result), thumbnail, rating: null }, ...others].slice(0, MOST));
    },
    rated(captionId, rating) {
      keep(
        list.value.map((recent) => (recent.result.caption_id === captionId ? { ...recent, rating } : recent)),
      );
    },
    forget(captionId) {
      keep(list.value.filter((recent) => recent.result.caption_id !== captionId));
    },
    clear() {
      keep([]);
    },
  };
}
