import { describe, expect, it } from "vitest";

import { useRecents } from "@/composables/useRecents";
import type { Shelf } from "@/composables/storage";

import { CAPTIONED } from "./samples";

const THUMBNAIL = "data:image/jpeg;base64,AAAA";

function shelf(limit = Infinity, content: string | null = null): Shelf & { content: () => string | null } {
  let held = content;
  return {
    content: () => held,
    read: () => held,
    write: (_key, text) => {
      if (text.length > limit) return false;
      held = text || null;
      return true;
    },
  };
}

const caption = (id: string): typeof CAPTIONED => ({ ...CAPTIONED, caption_id: id });

describe("recent captions", () => {
  it("come back after a reload, newest first, with their rating", () => {
    const browser = shelf();
    const recents = useRecents(browser);
    recents.add(caption("one"), THUMBNAIL);
    recents.add(caption("two"), THUMBNAIL);
    recents.rated("one", { stars: 4, correction: null, comment: null });
    const again = useRecents(browser);
    expect(again.list.value.map(({ result }) => result.caption_id)).toEqual(["two", "one"]);
    expect(again.list.value[1]?.rating?.stars).toBe(4);
  });

  it("are at most twelve", () => {
    const recents = useRecents(shelf());
    for (let i = 0; i < 20; i++) recents.add(caption(String(i)), THUMBNAIL);
    expect(recents.list.value).toHaveLength(12);
    expect(recents.list.value[0]?.result.caption_id).toBe("19");
  });

  it("make room when the browser's storage is full", () => {
    const browser = shelf(4000);
    const recents = useRecents(browser);
    for (let i = 0; i < 12; i++) recents.add(caption(String(i)), THUMBNAIL);
    expect(recents.list.value[0]?.result.caption_id).toBe("11");
    expect(useRecents(browser).list.value).toEqual(recents.list.value);
  });

  it("leave nothing behind when they are cleared", () => {
    const browser = shelf();
    const recents = useRecents(browser);
    recents.add(caption("one"), THUMBNAIL);
    recents.clear();
    expect(browser.content()).toBeNull();
  });

  it.each(["{", "[]]", '[{"result": 1}]', '{"a": 1}', "null"])(
    "start empty from %s, left by who knows what",
    (content) => {
      expect(useRecents(shelf(Infinity, content)).list.value).toEqual([]);
    },
  );
});
