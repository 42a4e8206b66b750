/**
 * One's own captions, as the service keeps them: whatever is on this list can be erased there, and nothing else is.
 *
 * Of photos this browser keeps small pictures, for the service hands none out; a caption whose picture it does not
 * have (made with the same key elsewhere, say) is shown on an empty one.
 */
import * as v from "valibot";
import { type Ref, ref } from "vue";

import type { Api } from "@/api/client";
import { Problem } from "@/api/problem";
import type { Captioned, Rating } from "@/api/schemas";

import { type Shelf, thisBrowser } from "./storage";

const KEY = "captionloop.thumbnails.v1";
/** Where the whole list was kept when it was this browser's. */
const EARLIER = "captionloop.recents.v1";
const MOST = 48;
export const PAGE = 12;

const thumbnailSchema = v.pipe(v.string(), v.startsWith("data:image/"));
const thumbnailsSchema = v.pipe(v.string(), v.parseJson(), v.array(v.tuple([v.string(), thumbnailSchema])));
const earlierSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.array(v.object({ result: v.object({ caption_id: v.string() }), thumbnail: thumbnailSchema })),
);

export interface Recent {
  result: Captioned;
  thumbnail: string;
  rating: Rating | null;
}

export interface Recents {
  list: Readonly<Ref<readonly Recent[]>>;
  /** Whether the service has more of them than are on the list. */
  more: Readonly<Ref<boolean>>;
  /** Asks the service anew: at the beginning, and when somebody else is calling. */
  load: () => Promise<void>;
  loadMore: () => Promise<void>;
  add: (result: Captioned, thumbnail: string | null) => void;
  rated: (captionId: string, rating: Rating) => void;
  /** The caption was erased. */
  forget: (captionId: string) => void;
  /** Erases all of them, also those that are not on the list, and what one said of other people's. */
  eraseAll: () => Promise<void>;
}

/** Newest first: id of the caption, and its picture. */
function read(shelf: Shelf): [string, string][] {
  const stored = v.safeParse(thumbnailsSchema, shelf.read(KEY) ?? "[]");
  if (stored.success && stored.output.length > 0) return stored.output;
  const earlier = v.safeParse(earlierSchema, shelf.read(EARLIER) ?? "[]");
  return earlier.success ? earlier.output.map(({ result, thumbnail }) => [result.caption_id, thumbnail]) : [];
}

/** A picture of the right shape, with nothing on it. */
export function blank({ width, height }: Captioned["image"]): string {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${String(width)}" height="${String(height)}"><rect width="100%" height="100%" fill="#8882"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

type Page = Awaited<ReturnType<Api["mine"]>>;

export function useRecents(api: Pick<Api, "mine" | "eraseAll">, shelf: Shelf = thisBrowser): Recents {
  const list = ref<Recent[]>([]);
  const more = ref(false);
  let thumbnails = read(shelf);
  let next: string | null = null;
  let asked = 0;
  shelf.write(EARLIER, "");

  function keep(pictures: [string, string][]): void {
    thumbnails = pictures.slice(0, MOST);
    const stored = shelf.write(KEY, thumbnails.length === 0 ? "" : JSON.stringify(thumbnails));
    // Full: the older half makes room.
    if (!stored && thumbnails.length > 1) keep(thumbnails.slice(0, Math.ceil(thumbnails.length / 2)));
  }

  function pictureOf(result: Captioned): string {
    const known = thumbnails.find(([captionId]) => captionId === result.caption_id);
    return known ? known[1] : blank(result.image);
  }

  /** A page of the service; null where it does not answer, or another answer was asked for since. */
  async function fetchPage(before: string | null): Promise<Page | null> {
    asked += 1;
    const mine = asked;
    try {
      const page = await api.mine(PAGE, before);
      return mine === asked ? page : null;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return null;
    }
  }

  function show(page: Page, before: readonly Recent[]): void {
    const shown = new Set(before.map(({ result }) => result.caption_id));
    const added = page.captions
      .filter(({ caption }) => !shown.has(caption.caption_id))
      .map(({ caption, rating }) => ({ result: caption, thumbnail: pictureOf(caption), rating }));
    list.value = [...before, ...added];
    next = page.next;
    more.value = next !== null;
  }

  return {
    list,
    more,
    async load() {
      list.value = [];
      more.value = false;
      const page = await fetchPage(null);
      // What was made while the service was asked comes first.
      if (page) show(page, list.value);
    },
    async loadMore() {
      const page = await fetchPage(next);
      if (page) show(page, list.value);
    },
    add(result, thumbnail) {
      if (result.caption_id !== null && thumbnail !== null)
        keep([[result.caption_id, thumbnail], ...thumbnails]);
      const others = list.value.filter((recent) => recent.result.caption_id !== result.caption_id);
      list.value = [{ result, thumbnail: thumbnail ?? blank(result.image), rating: null }, ...others];
    },
    rated(captionId, rating) {
      list.value = list.value.map((recent) =>
        recent.result.caption_id === captionId ? { ...recent, rating } : recent,
      );
    },
    forget(captionId) {
      list.value = list.value.filter((recent) => recent.result.caption_id !== captionId);
      keep(thumbnails.filter(([known]) => known !== captionId));
    },
    async eraseAll() {
      await api.eraseAll();
      asked += 1;
      list.value = [];
      more.value = false;
      keep([]);
    },
  };
}
