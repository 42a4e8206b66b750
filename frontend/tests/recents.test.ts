import { describe, expect, it, vi } from "vitest";

import { Problem } from "@/api/problem";
import type { Mine, Rating } from "@/api/schemas";
import type { Shelf } from "@/composables/storage";
import { type Recents, blank, useRecents } from "@/composables/useRecents";

import { CAPTIONED } from "./samples";

const THUMBNAIL = "data:image/jpeg;base64,AAAA";
const RATING: Rating = { stars: 4, correction: null, comment: null };

function shelf(limit = Infinity, content: Record<string, string> = {}): Shelf & { content: () => string[] } {
  const held = new Map(Object.entries(content));
  return {
    content: () => [...held.keys()],
    read: (key) => held.get(key) ?? null,
    write: (key, text) => {
      if (text.length > limit) return false;
      if (text === "") held.delete(key);
      else held.set(key, text);
      return true;
    },
  };
}

const caption = (id: string): typeof CAPTIONED => ({ ...CAPTIONED, caption_id: id });
const page = (ids: string[], next: string | null = null): Mine => ({
  captions: ids.map((id) => ({ caption: caption(id), rating: null })),
  next,
});
const ids = (recents: Recents): (string | null)[] =>
  recents.list.value.map(({ result }) => result.caption_id);
const nothing = { mine: () => Promise.resolve(page([])), eraseAll: () => Promise.resolve() };

describe("one's own captions", () => {
  it("are those that the service keeps, with the pictures that this browser has", async () => {
    const browser = shelf();
    useRecents(nothing, browser).add(caption("one"), THUMBNAIL);
    const mine = vi.fn(() => Promise.resolve(page(["two", "one"])));
    const recents = useRecents({ ...nothing, mine }, browser);
    await recents.load();
    expect(ids(recents)).toEqual(["two", "one"]);
    expect(recents.list.value.map(({ thumbnail }) => thumbnail)).toEqual([blank(CAPTIONED.image), THUMBNAIL]);
    expect(mine).toHaveBeenCalledExactlyOnceWith(12, null);
  });

  it("come page by page", async () => {
    const pages = [page(["four", "three"], "before three"), page(["two", "one"])];
    const mine = vi.fn(() => Promise.resolve(pages.shift() ?? page([])));
    const recents = useRecents({ ...nothing, mine }, shelf());
    await recents.load();
    expect(recents.more.value).toBe(true);
    await recents.loadMore();
    expect(mine).toHaveBeenLastCalledWith(12, "before three");
    expect(ids(recents)).toEqual(["four", "three", "two", "one"]);
    expect(recents.more.value).toBe(false);
  });

  it("begin with what was made while the service was asked", async () => {
    let answer: (mine: Mine) => void = () => undefined;
    const mine = (): Promise<Mine> => new Promise((resolve) => (answer = resolve));
    const recents = useRecents({ ...nothing, mine }, shelf());
    const loading = recents.load();
    recents.add(caption("new"), THUMBNAIL);
    recents.rated("new", RATING);
    answer(page(["new", "old"]));
    await loading;
    expect(ids(recents)).toEqual(["new", "old"]);
    expect(recents.list.value[0]?.rating).toEqual(RATING);
  });

  it("are those of whoever is calling now", async () => {
    const answers: ((mine: Mine) => void)[] = [];
    const mine = (): Promise<Mine> => new Promise((resolve) => void answers.push(resolve));
    const recents = useRecents({ ...nothing, mine }, shelf());
    const both = [recents.load(), recents.load()];
    answers[1]?.(page(["with the key"]));
    answers[0]?.(page(["without"]));
    await Promise.all(both);
    expect(ids(recents)).toEqual(["with the key"]);
  });

  it("are none where the service does not answer", async () => {
    const recents = useRecents({ ...nothing, mine: () => Promise.reject(new Problem("offline")) }, shelf());
    await recents.load();
    expect(ids(recents)).toEqual([]);
  });

  it("leave nothing behind when they are erased, one or all", async () => {
    const browser = shelf();
    const eraseAll = vi.fn(() => Promise.resolve());
    const recents = useRecents({ ...nothing, eraseAll }, browser);
    for (const id of ["one", "two", "three"]) recents.add(caption(id), THUMBNAIL);
    recents.forget("two");
    expect(ids(recents)).toEqual(["three", "one"]);
    await recents.eraseAll();
    expect(eraseAll).toHaveBeenCalledOnce();
    expect(ids(recents)).toEqual([]);
    expect(browser.content()).toEqual([]);
  });

  it("stay where the service does not erase them", async () => {
    const eraseAll = (): Promise<void> => Promise.reject(new Problem("offline"));
    const recents = useRecents({ ...nothing, eraseAll }, shelf());
    recents.add(caption("one"), THUMBNAIL);
    await expect(recents.eraseAll()).rejects.toThrow(Problem);
    expect(ids(recents)).toEqual(["one"]);
  });

  it("have fewer pictures when the browser's storage is full", () => {
    const browser = shelf(200);
    const recents = useRecents(nothing, browser);
    for (let i = 0; i < 12; i++) recents.add(caption(String(i)), THUMBNAIL);
    expect(recents.list.value).toHaveLength(12);
    expect(browser.read("captionloop.thumbnails.v1")).toContain('"11"');
  });

  it("have the pictures of the list that this browser kept before", async () => {
    const list = JSON.stringify([{ result: caption("old"), thumbnail: THUMBNAIL, rating: null }]);
    const browser = shelf(Infinity, { "captionloop.recents.v1": list });
    const recents = useRecents({ ...nothing, mine: () => Promise.resolve(page(["old"])) }, browser);
    await recents.load();
    expect(recents.list.value[0]?.thumbnail).toBe(THUMBNAIL);
    expect(browser.content()).toEqual([]);
  });

  it.each(["{", "[]]", '[["one"]]', '{"a": 1}', "null", '[["one", "https://example.org/x.png"]]'])(
    "have no pictures from %s, left by who knows what",
    async (content) => {
      const browser = shelf(Infinity, { "captionloop.thumbnails.v1": content });
      const recents = useRecents({ ...nothing, mine: () => Promise.resolve(page(["one"])) }, browser);
      await recents.load();
      expect(recents.list.value[0]?.thumbnail).toBe(blank(CAPTIONED.image));
    },
  );
});
