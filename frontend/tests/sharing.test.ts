import { flushPromises, mount } from "@vue/test-utils";
import { afterEach, describe, expect, it, vi } from "vitest";

import ResultView from "@/components/ResultView.vue";
import ShareButtons from "@/components/ShareButtons.vue";
import { useAnnouncer } from "@/composables/useAnnouncer";

import { CAPTIONED, apiWith } from "./samples";

const CAPTION = "a red boat";
const PROPS = { caption: CAPTION, language: null };

function browserWith(abilities: Record<string, unknown>): void {
  vi.stubGlobal("navigator", { clipboard: undefined, share: undefined, ...abilities });
}

async function pressed(name: string): Promise<ReturnType<typeof mount>> {
  const view = mount(ShareButtons, { props: PROPS, attachTo: document.body });
  await view
    .findAll("button")
    .find((button) => button.text() === name)
    ?.trigger("click");
  await flushPromises();
  return view;
}

afterEach(() => void vi.unstubAllGlobals());

describe("copying a caption", () => {
  it("puts its text into the clipboard, shows that, and tells screen readers", async () => {
    const writeText = vi.fn(() => Promise.resolve());
    browserWith({ clipboard: { writeText } });
    const view = await pressed("Copy");
    expect(writeText).toHaveBeenCalledExactlyOnceWith(CAPTION);
    expect(view.text()).toContain("Copied");
    expect(useAnnouncer().message.value).toBe("The caption is copied.");
    view.unmount();
  });

  it("works by selection where there is no clipboard, and leaves the focus where it was", async () => {
    browserWith({});
    let selected = "";
    document.execCommand = vi.fn(() => {
      selected = document.querySelector("textarea")?.value ?? "";
      return true;
    });
    const view = await pressed("Copy");
    expect(selected).toBe(CAPTION);
    expect(document.querySelector("textarea")).toBeNull();
    expect(view.text()).toContain("Copied");
    view.unmount();
  });

  it("says so where nothing is allowed", async () => {
    browserWith({
      clipboard: { writeText: () => Promise.reject(new DOMException("no", "NotAllowedError")) },
    });
    document.execCommand = vi.fn(() => false);
    const view = await pressed("Copy");
    expect(view.text()).toContain("did not let the page copy");
    expect(useAnnouncer().message.value).toContain("did not let the page copy");
    view.unmount();
  });
});

describe("sharing a caption", () => {
  it("is offered where the browser shares, and only there", () => {
    browserWith({});
    expect(mount(ShareButtons, { props: PROPS }).text()).not.toContain("Share");
    browserWith({ share: vi.fn() });
    expect(mount(ShareButtons, { props: PROPS }).text()).toContain("Share");
  });

  it("hands over the text, and tells", async () => {
    const share = vi.fn(() => Promise.resolve());
    browserWith({ share });
    const view = await pressed("Share");
    expect(share).toHaveBeenCalledExactlyOnceWith({ text: CAPTION });
    expect(useAnnouncer().message.value).toBe("The caption is shared.");
    view.unmount();
  });

  it("that is called off is not told, and nothing is copied instead", async () => {
    const writeText = vi.fn(() => Promise.resolve());
    browserWith({
      clipboard: { writeText },
      share: () => Promise.reject(new DOMException("called off", "AbortError")),
    });
    useAnnouncer().announce("before");
    const view = await pressed("Share");
    expect(useAnnouncer().message.value).toBe("before");
    expect(writeText).not.toHaveBeenCalled();
    view.unmount();
  });

  it("copies where sharing fails", async () => {
    const writeText = vi.fn(() => Promise.resolve());
    browserWith({ clipboard: { writeText }, share: () => Promise.reject(new TypeError("nothing to share")) });
    const view = await pressed("Share");
    expect(writeText).toHaveBeenCalledExactlyOnceWith(CAPTION);
    expect(useAnnouncer().message.value).toBe("The caption is copied.");
    view.unmount();
  });
});

describe("a photo that is unlike anything the model learnt from", () => {
  const shown = (familiar: boolean | null): string => {
    const view = mount(ResultView, {
      props: {
        api: apiWith({}),
        photoUrl: "",
        fresh: false,
        rating: null,
        result: { ...CAPTIONED, familiar },
      },
    });
    return view.html();
  };

  it("is said to be that, and no confidence is claimed: not of the caption, its words, or the others", () => {
    const page = shown(false);
    expect(page).toContain("this photo is unlike anything it learnt from");
    expect(page).not.toMatch(/\d %|sure of this|fairly|guess|very sure/);
    expect(page).toContain("looked at the lower left");
  });

  it("is none where it is familiar, or nobody knows", () => {
    for (const familiar of [true, null]) {
      const page = shown(familiar);
      expect(page).not.toContain("unlike anything");
      expect(page).toContain("The model is fairly sure of this.");
      expect(page).toContain("70 %");
    }
  });

  it("is told to screen readers with the caption", async () => {
    shown(false);
    await flushPromises();
    expect(useAnnouncer().message.value).toContain(
      "Caption: a red boat. The model cannot tell how sure it is",
    );
  });
});
