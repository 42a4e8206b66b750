/** Captions are in the language of the model, the page in the reader's: every element says which of the two it is. */
import { flushPromises, mount } from "@vue/test-utils";
import { afterEach, describe, expect, it, vi } from "vitest";
import * as v from "valibot";

import { captionedSchema } from "@/api/schemas";
import MoreToRate from "@/components/MoreToRate.vue";
import RecentStrip from "@/components/RecentStrip.vue";
import ResultView from "@/components/ResultView.vue";
import { useAnnouncer } from "@/composables/useAnnouncer";
import { createRatings } from "@/composables/useRatings";
import { useSharing } from "@/composables/useSharing";

import { CAPTIONED, apiWith } from "./samples";

const NOWHERE = { read: (): null => null, write: (): boolean => false };

function result(language: string | null): ReturnType<typeof mount> {
  const api = apiWith({ rate: (_id, rating) => Promise.resolve(rating) });
  const rating = createRatings(api, vi.fn(), NOWHERE).of("c1", { stars: 4, correction: null, comment: null });
  return mount(ResultView, {
    props: { api, result: { ...CAPTIONED, language }, photoUrl: "", fresh: false, rating },
  });
}

/** The texts of the elements that claim this language. */
const spoken = (view: ReturnType<typeof mount>, language: string): string[] =>
  view.findAll(`[lang="${language}"]`).map((element) => element.text());

describe("the language of a caption", () => {
  it("is on its words, on the others and on the field for a better one, and on nothing of the page's", () => {
    const view = result("fr");
    expect(spoken(view, "fr")).toEqual(["a", "red", "boat", "", "a small boat", "a small boat"]);
    expect(view.find('input[type="text"]').attributes("lang")).toBe("fr");
    expect(view.findAll("[lang]").every((element) => !element.text().includes("sure"))).toBe(true);
  });

  it("is on the word that is looked into", async () => {
    const view = result("ja");
    await view.findAll(".word")[1]?.trigger("focus");
    expect(view.find(".detail [lang]").text()).toContain("red");
  });

  it("is claimed nowhere where the service does not say it", () => {
    expect(result(null).findAll("[lang]")).toEqual([]);
    const older: Partial<typeof CAPTIONED> = { ...CAPTIONED };
    delete older.language;
    expect(v.parse(captionedSchema, older).language).toBeNull();
  });

  it("is said by the announcement, of the caption alone", async () => {
    result("fr");
    await flushPromises();
    const said = useAnnouncer().parts.value;
    expect(said.map(({ language }) => language)).toEqual([null, "fr", null]);
    expect(said[1]?.text).toBe("a red boat");
    expect(useAnnouncer().message.value).toMatch(/^Caption: a red boat\. \S/u);
  });

  it("is on earlier captions, and on other people's", async () => {
    const recents = [{ result: { ...CAPTIONED, language: "de" }, thumbnail: "", rating: null }];
    const eraseAll = (): Promise<void> => Promise.resolve();
    const strip = mount(RecentStrip, { props: { recents, more: false, eraseAll } });
    expect(spoken(strip, "de")).toEqual(["a red boat"]);

    URL.createObjectURL = vi.fn(() => "blob:theirs");
    URL.revokeObjectURL = vi.fn();
    const api = apiWith({
      nextToRate: () =>
        Promise.resolve({ caption_id: "c2", caption: "un canard", language: "fr", image: CAPTIONED.image }),
      photoToRate: () => Promise.resolve(new Blob(["x"])),
    });
    const more = mount(MoreToRate, { props: { api, ratings: createRatings(api, vi.fn(), NOWHERE) } });
    await more.find("button").trigger("click");
    await flushPromises();
    expect(spoken(more, "fr")[0]).toBe("un canard");
    expect(useAnnouncer().parts.value[1]).toEqual({ text: "un canard", language: "fr" });
    more.unmount();
  });
});

describe("a caption that is copied", () => {
  afterEach(() => void vi.unstubAllGlobals());

  class Item {
    constructor(readonly kinds: Record<string, string>) {}
  }

  function clipboard(write: (items: Item[]) => Promise<void>): ReturnType<typeof vi.fn> {
    const writeText = vi.fn(() => Promise.resolve());
    vi.stubGlobal("navigator", { clipboard: { write, writeText } });
    vi.stubGlobal("ClipboardItem", Item);
    return writeText;
  }

  it("takes its language along, as text that is no markup", async () => {
    const written: Item[] = [];
    const writeText = clipboard((items) => Promise.resolve(void written.push(...items)));
    expect(await useSharing().copy("un <b>canard</b>", "fr")).toBe("copied");
    expect(writeText).not.toHaveBeenCalled();
    expect(written[0]?.kinds).toEqual({
      "text/plain": "un <b>canard</b>",
      "text/html": '<span lang="fr" dir="auto">un &lt;b&gt;canard&lt;/b&gt;</span>',
    });
  });

  it("is copied as text alone where the browser takes no more, or the language is not known", async () => {
    const refused = clipboard(() => Promise.reject(new TypeError("blobs only")));
    expect(await useSharing().copy("un canard", "fr")).toBe("copied");
    expect(refused).toHaveBeenCalledExactlyOnceWith("un canard");
    const unknown = clipboard(() => Promise.reject(new Error("not expected")));
    await useSharing().copy("a duck", null);
    expect(unknown).toHaveBeenCalledExactlyOnceWith("a duck");
  });
});
