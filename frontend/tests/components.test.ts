import { flushPromises, mount } from "@vue/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Problem } from "@/api/problem";
import type { Rating, ServedModel } from "@/api/schemas";
import AlternativeList from "@/components/AlternativeList.vue";
import CaptionWords from "@/components/CaptionWords.vue";
import FactList from "@/components/FactList.vue";
import FailureView from "@/components/FailureView.vue";
import KeepingNotice from "@/components/KeepingNotice.vue";
import RatingForm from "@/components/RatingForm.vue";
import ResultView from "@/components/ResultView.vue";
import type { Shelf } from "@/composables/storage";
import { useMayKeep } from "@/composables/useMayKeep";
import { createRatings } from "@/composables/useRatings";
import { type WordFocus, useWordFocus } from "@/composables/useWordFocus";

import { CAPTIONED, MODEL, apiWith } from "./samples";

describe("the words of a caption", () => {
  function words(): { view: ReturnType<typeof mount>; focus: WordFocus } {
    const focus = useWordFocus(() => CAPTIONED.words.length);
    const view = mount(CaptionWords, {
      props: { words: CAPTIONED.words, caption: CAPTIONED.caption, language: "en", focus, unlike: false },
      attachTo: document.body,
    });
    return { view, focus };
  }

  it("read as the caption, and say how sure and where", () => {
    const { view } = words();
    expect(view.findAll(".text").map((word) => word.text())).toEqual(["a", "red", "boat"]);
    expect(view.findAll("button")[1]?.text()).toContain("fairly sure, 70 %; looked at the lower left");
    view.unmount();
  });

  it("are one tab stop; the arrow keys, Home and End go through them", async () => {
    const { view, focus } = words();
    const buttons = view.findAll("button");
    expect(buttons.map((button) => button.attributes("tabindex"))).toEqual(["0", "-1", "-1"]);
    buttons[0]?.element.focus();
    const visited: (number | null)[] = [];
    for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"]) {
      await view.trigger("keydown", { key });
      await flushPromises();
      visited.push(focus.active.value);
    }
    expect(visited).toEqual([1, 2, 2, 1, 0, 2]);
    await view.trigger("keydown", { key: "Escape" });
    expect(focus.active.value).toBeNull();
    view.unmount();
  });

  it("keep a tapped word until it is tapped again", async () => {
    const { view, focus } = words();
    const button = view.findAll("button")[1];
    const tap = async (): Promise<void> => {
      await button?.trigger("pointerdown");
      button?.element.focus();
      await button?.trigger("click", { detail: 1 });
    };
    await tap();
    expect(focus.active.value).toBe(1);
    expect(button?.attributes("aria-pressed")).toBe("true");
    await tap();
    expect(focus.active.value).toBeNull();
    view.unmount();
  });
});

describe("the walk through the words", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("visits each word once and ends", () => {
    const focus = useWordFocus(() => 3);
    focus.walk();
    const visited = [focus.active.value];
    while (focus.walking.value) {
      vi.advanceTimersToNextTimer();
      visited.push(focus.active.value);
    }
    expect(visited).toEqual([0, 1, 2, null]);
  });

  it("gives way to the pointer", () => {
    const focus = useWordFocus(() => 3);
    focus.walk();
    focus.hover(2);
    expect(focus.walking.value).toBe(false);
    expect(focus.active.value).toBe(2);
  });
});

describe("rating", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function form(
    rate: (id: string, rating: Rating) => Promise<Rating>,
    given: Rating | null = null,
  ): ReturnType<typeof mount> {
    const shelf = { read: (): null => null, write: (): boolean => true };
    const rating = createRatings(apiWith({ rate }), vi.fn(), shelf).of("c1", given);
    return mount(RatingForm, { props: { rating, caption: "a red boat", language: "en" } });
  }

  const echo = (): ReturnType<typeof vi.fn<(id: string, rating: Rating) => Promise<Rating>>> =>
    vi.fn((_id: string, rating: Rating) => Promise.resolve(rating));

  it("saves the stars by themselves, once, at the last of several", async () => {
    const rate = echo();
    const view = form(rate);
    for (const stars of [2, 3, 4]) await view.find(`input[value="${String(stars)}"]`).setValue();
    await vi.runAllTimersAsync();
    expect(rate).toHaveBeenCalledExactlyOnceWith(
      "c1",
      { stars: 4, correction: null, comment: null },
      expect.any(AbortSignal),
    );
    expect(view.find(".thanks").text()).toContain("thank you");
  });

  it("sends stars and words together, because the service replaces what it had", async () => {
    const rate = echo();
    const view = form(rate, { stars: 3, correction: null, comment: "hm" });
    await view.find("input[type=text]").setValue("  a blue boat ");
    await view.find("form").trigger("submit");
    await flushPromises();
    expect(rate).toHaveBeenCalledExactlyOnceWith(
      "c1",
      { stars: 3, correction: "a blue boat", comment: "hm" },
      expect.any(AbortSignal),
    );
  });

  it("asks for stars before it sends words", async () => {
    const rate = echo();
    const view = form(rate);
    await (view.vm as unknown as { prefer: (text: string) => Promise<void> }).prefer("a blue boat");
    await view.find("form").trigger("submit");
    expect(rate).not.toHaveBeenCalled();
    expect(view.find("[role=alert]").text()).toContain("stars");
  });

  it("says so when it is not saved, and keeps what was written", async () => {
    const view = form(() => Promise.reject(new Problem("offline")), {
      stars: 3,
      correction: "a boat",
      comment: null,
    });
    await view.find("input[type=text]").setValue("a blue boat");
    await view.find("form").trigger("submit");
    await flushPromises();
    expect(view.find("[role=alert]").text()).toContain("not saved");
    expect(view.find("[role=alert] button").text()).toBe("Try again");
    expect((view.find("input[type=text]").element as HTMLInputElement).value).toBe("a blue boat");
  });
});

describe("a failure", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("counts down to when another try is allowed", async () => {
    const problem = new Problem("refused", { status: 429, retryAfter: 3 });
    const view = mount(FailureView, { props: { problem, photoUrl: "blob:x" } });
    const button = view.find(".primary");
    expect(button.text()).toBe("Try again in 3 s");
    expect(button.attributes("disabled")).toBeDefined();
    await vi.advanceTimersByTimeAsync(3000);
    expect(button.text()).toBe("Try again");
    expect(button.attributes("disabled")).toBeUndefined();
  });

  it("shows a problem document's text as text", () => {
    const problem = new Problem("refused", { status: 418, title: "<b>Tea</b>", detail: "<img src=x>" });
    const view = mount(FailureView, { props: { problem, photoUrl: null } });
    expect(view.find("b, img").exists()).toBe(false);
    expect(view.text()).toContain("<b>Tea</b>");
  });
});

describe("alternatives", () => {
  it("can be preferred", async () => {
    const { alternatives } = CAPTIONED;
    const view = mount(AlternativeList, { props: { alternatives, language: "en", unlike: false } });
    await view.find("button").trigger("click");
    expect(view.emitted("prefer")).toEqual([["a small boat"]]);
  });
});

describe("a list of facts", () => {
  it("shortens hashes, keeps what has parts closed, and leaves out what is not known", () => {
    const facts = { corpus_sha256: "3b".repeat(32), parent: null, training: { seed: 0, views: ["a", "b"] } };
    const view = mount(FactList, { props: { facts } });
    expect(view.find("dd").text()).toBe("3b3b3b3b3b3b");
    expect(view.find("dd").attributes("title")).toBe(facts.corpus_sha256);
    expect(view.text()).not.toContain("parent");
    expect(view.find("details").attributes("open")).toBeUndefined();
    expect(view.find("details").text()).toContain("a, b");
  });
});

describe("what becomes of a photo", () => {
  const served = (keep: boolean): ServedModel => ({
    ...MODEL,
    keeping: { keep, unrated_days: 7, rated_days: 365 },
  });

  it("is said with the service's own days, and can be refused", async () => {
    const api = apiWith({ model: () => Promise.resolve(served(true)) });
    const view = mount(KeepingNotice, { props: { api, modelValue: true } });
    expect(view.text()).toContain("kept without its metadata");
    await flushPromises();
    expect(view.text()).toContain("for 7 days, or 365 days once somebody has rated");
    await view.get("input").setValue(true);
    expect(view.emitted("update:modelValue")).toEqual([[false]]);
    await view.setProps({ modelValue: false });
    expect(view.text()).toContain("captioned and forgotten");
    expect(view.get("input").element.checked).toBe(true);
  });

  it("is shown to others only where somebody says so, and the photo is kept", async () => {
    const api = apiWith({ model: () => Promise.resolve(served(true)) });
    const view = mount(KeepingNotice, { props: { api, modelValue: true } });
    const share = view.findAll("input")[1];
    expect(share?.element.checked).toBe(false);
    await share?.setValue(true);
    expect(view.emitted("update:share")).toEqual([[true]]);
    await view.setProps({ modelValue: false });
    expect(view.findAll("input")).toHaveLength(1);
  });

  it("needs no refusal where nothing is kept", async () => {
    const api = apiWith({ model: () => Promise.resolve(served(false)) });
    const view = mount(KeepingNotice, { props: { api, modelValue: true } });
    await flushPromises();
    expect(view.text()).toContain("Nothing that you send is kept");
    expect(view.find("input").exists()).toBe(false);
  });

  it("leaves nothing to rate or to erase on a caption that is not kept", () => {
    const props = { api: apiWith({}), photoUrl: "blob:a", fresh: false };
    const unkept = mount(ResultView, {
      props: { ...props, result: { ...CAPTIONED, caption_id: null }, rating: null },
    });
    expect(unkept.text()).toContain("Neither your photo nor this caption is kept");
    expect(unkept.text()).not.toContain("Erase this photo");
    expect(unkept.findComponent(RatingForm).exists()).toBe(false);
    const rating = createRatings(props.api, () => undefined).of("a", null);
    const kept = mount(ResultView, { props: { ...props, result: CAPTIONED, rating } });
    expect(kept.text()).toContain("Erase this photo");
    expect(kept.findComponent(RatingForm).exists()).toBe(true);
  });

  it("is remembered by the browser", () => {
    const stored = new Map<string, string>();
    const shelf: Shelf = {
      read: (key) => stored.get(key) ?? null,
      write: (key, text) => (text === "" ? stored.delete(key) : stored.set(key, text)) !== false,
    };
    const mayKeep = useMayKeep(shelf);
    expect(mayKeep.value).toBe(true);
    mayKeep.value = false;
    expect(useMayKeep(shelf).value).toBe(false);
    mayKeep.value = true;
    expect(useMayKeep(shelf).value).toBe(true);
  });
});
