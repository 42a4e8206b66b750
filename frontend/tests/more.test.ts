import { flushPromises, mount } from "@vue/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { createApi } from "@/api/client";
import { Problem } from "@/api/problem";
import type { Rating, ToRate } from "@/api/schemas";
import MoreToRate from "@/components/MoreToRate.vue";
import { useMayShare } from "@/composables/useMayShare";
import { createRatings } from "@/composables/useRatings";

import { apiWith, reply, scripted } from "./samples";

const shown = (caption_id: string): ToRate => ({
  caption_id,
  caption: `a duck, ${caption_id}`,
  language: "fr",
  image: { width: 40, height: 30 },
});
const PHOTO = new Blob(["x"], { type: "image/png" });

/** The card in front of a service that has these to rate, one after the other. */
function card(...queue: (ToRate | Problem)[]): {
  view: ReturnType<typeof mount>;
  skipped: (string | null)[];
  rated: [string, Rating][];
  press: (text: string) => Promise<void>;
} {
  const skipped: (string | null)[] = [];
  const rated: [string, Rating][] = [];
  const api = apiWith({
    nextToRate: (skip) => {
      skipped.push(skip);
      const next = queue.shift() ?? null;
      return next instanceof Problem ? Promise.reject(next) : Promise.resolve(next);
    },
    photoToRate: () => Promise.resolve(PHOTO),
    rate: (captionId, rating) => {
      rated.push([captionId, rating]);
      return Promise.resolve(rating);
    },
  });
  const ratings = createRatings(api, () => undefined, { read: () => null, write: () => false });
  const view = mount(MoreToRate, { props: { api, ratings }, attachTo: document.body });
  async function press(text: string): Promise<void> {
    const button = view.findAll("button").find((each) => each.text() === text);
    if (!button) throw new Error(`there is no button ${text}: ${view.text()}`);
    await button.trigger("click");
    await flushPromises();
  }
  return { view, skipped, rated, press };
}

describe("rate a few more", () => {
  beforeEach(() => {
    URL.createObjectURL = vi.fn(() => "blob:theirs");
    URL.revokeObjectURL = vi.fn();
  });
  afterEach(() => {
    document.body.replaceChildren();
  });

  it("asks nothing of the service before somebody wants to", async () => {
    const { view, skipped, press } = card(shown("one"));
    expect(skipped).toEqual([]);
    await press("Show me one");
    expect(view.text()).toContain("a duck, one");
    expect(view.get("img").attributes("src")).toBe("blob:theirs");
    expect(view.get("img").attributes("alt")).toBe("The photo to rate");
    expect(document.activeElement?.textContent).toBe("Rate a few more");
  });

  it("saves what is rated before it shows the next one, and skips what is not", async () => {
    const { view, skipped, rated, press } = card(shown("one"), shown("two"));
    await press("Show me one");
    await view.findAll("input[type=radio]")[3]?.setValue(true);
    await view.get("input[type=text]").setValue("two ducks");
    await press("Next");
    expect(rated).toEqual([["one", { stars: 4, correction: "two ducks", comment: null }]]);
    expect(view.text()).toContain("a duck, two");
    await press("Skip this one");
    expect(skipped).toEqual([null, null, "two"]);
    expect(view.text()).toContain("There is nothing more to rate");
    expect(rated).toHaveLength(1);
  });

  it("stops when somebody has enough, and the focus is back where it began", async () => {
    const { view, press } = card(shown("one"));
    await press("Show me one");
    await press("That is enough");
    expect(view.find("img").exists()).toBe(false);
    expect(document.activeElement?.textContent).toBe("Show me one");
    expect(URL.revokeObjectURL).toHaveBeenCalledWith("blob:theirs");
  });

  it("says what went wrong, and tries again", async () => {
    const { view, press } = card(new Problem("unreachable"), shown("one"));
    await press("Show me one");
    expect(view.get("[role=alert]").text()).toContain("could not be reached");
    await press("Try again");
    expect(view.text()).toContain("a duck, one");
  });
});

describe("the calls for it", () => {
  it("tell nothing from something, and skip by id", async () => {
    const { transport, sent } = scripted(
      reply(204, null),
      reply(200, { ...shown("one"), photo: "/v1/ratings/one/photo" }),
      { status: 200, body: "", blob: PHOTO, header: () => null },
    );
    const api = createApi(transport, () => "", "https://example.org/x/");
    expect(await api.nextToRate(null)).toBeNull();
    expect(await api.nextToRate("a/b")).toEqual(shown("one"));
    expect(await api.photoToRate("one")).toBe(PHOTO);
    expect(sent.map(({ url }) => url)).toEqual([
      "https://example.org/x/v1/ratings/next",
      "https://example.org/x/v1/ratings/next?skip=a%2Fb",
      "https://example.org/x/v1/ratings/one/photo",
    ]);
    expect(sent[2]?.file).toBe(true);
  });

  it("share a photo only where somebody said so", async () => {
    const { transport, sent } = scripted(reply(500, {}), reply(500, {}), reply(500, {}));
    const api = createApi(transport, () => "");
    for (const call of [{}, { share: true }, { share: true, keep: false }])
      await api.caption(PHOTO, "a.png", call).catch(() => null);
    expect(sent.map(({ body }) => (body as FormData).get("share"))).toEqual([null, "true", null]);
    const stored = new Map<string, string>();
    const shelf = {
      read: (key: string) => stored.get(key) ?? null,
      write: (key: string, text: string) => stored.set(key, text).has(key),
    };
    expect(useMayShare(shelf).value).toBe(false);
    useMayShare(shelf).value = true;
    expect(useMayShare(shelf).value).toBe(true);
  });
});
