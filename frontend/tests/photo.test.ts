import { afterEach, describe, expect, it, vi } from "vitest";

import { Problem } from "@/api/problem";
import { LONGEST_SIDE, MOST_BYTES, fitted, mustBeRedrawn, preparePhoto } from "@/photo/prepare";

const jpeg = (size: number): { size: number; type: string } => ({ size, type: "image/jpeg" });

/** What a browser does that decodes into `size`, or not at all. */
function browser(size: { width: number; height: number } | null, encodes = true): void {
  vi.stubGlobal(
    "Image",
    class {
      onload: (() => void) | undefined;
      onerror: (() => void) | undefined;
      naturalWidth = size?.width;
      naturalHeight = size?.height;
      set src(_url: string) {
        queueMicrotask(() => (size ? this.onload?.() : this.onerror?.()));
      }
    },
  );
  const drawing = { fillRect: vi.fn(), drawImage: vi.fn() };
  const canvas = {
    getContext: () => drawing,
    toBlob(done: (blob: Blob | null) => void): void {
      done(encodes ? new Blob(["small"], { type: "image/jpeg" }) : null);
    },
  };
  vi.spyOn(document, "createElement").mockReturnValue(canvas as unknown as HTMLElement);
}

describe("a photo before it is sent", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  it("is left alone if it is small", () => {
    expect(mustBeRedrawn(jpeg(MOST_BYTES), { width: LONGEST_SIDE, height: LONGEST_SIDE })).toBe(false);
  });

  it("is redrawn when it has too many bytes, or a side that is too long", () => {
    expect(mustBeRedrawn(jpeg(MOST_BYTES + 1), { width: 100, height: 100 })).toBe(true);
    expect(mustBeRedrawn(jpeg(17_000), { width: 12_000, height: 12_000 })).toBe(true);
    expect(mustBeRedrawn(jpeg(17_000), { width: 10, height: LONGEST_SIDE + 1 })).toBe(true);
  });

  it("is sent in full size where that is asked for, as far as the service takes it", async () => {
    expect(mustBeRedrawn(jpeg(9_000_000), { width: 6000, height: 4000 }, false)).toBe(false);
    expect(mustBeRedrawn(jpeg(17_000), { width: 12_000, height: 12_000 }, false)).toBe(true);
    expect(mustBeRedrawn(jpeg(MOST_BYTES + 1), { width: 100, height: 100 }, false)).toBe(true);
    expect(mustBeRedrawn({ size: 1, type: "image/heic" }, { width: 10, height: 10 }, false)).toBe(true);
    browser({ width: 5000, height: 4000 });
    const file = new File(["x"], "photo.jpg", { type: "image/jpeg" });
    expect((await preparePhoto(file, false)).blob).toBe(file);
    expect((await preparePhoto(file)).blob).not.toBe(file);
  });

  it("goes as it is where the browser cannot open it, or cannot write what it drew", async () => {
    for (const [size, encodes] of [[null, true] as const, [{ width: 5000, height: 9 }, false] as const]) {
      browser(size, encodes);
      const file = new File(["II*"], "scan.tif", { type: "image/tiff" });
      expect((await preparePhoto(file)).blob).toBe(file);
    }
  });

  it("is refused only where it has too many bytes and cannot be made smaller", async () => {
    browser(null);
    const file = new File([new Uint8Array(MOST_BYTES + 1)], "photo.jpg", { type: "image/jpeg" });
    await expect(preparePhoto(file)).rejects.toThrow(Problem);
  });

  it("gets a JPEG's name when it becomes one", async () => {
    browser({ width: 5000, height: 4000 });
    const photo = await preparePhoto(new File(["x"], "IMG_1.png", { type: "image/png" }));
    expect(photo.name).toBe("IMG_1.jpg");
    expect(photo.blob.type).toBe("image/jpeg");
  });

  it("is redrawn when only the browser can read it", () => {
    expect(mustBeRedrawn({ size: 1, type: "image/heic" }, { width: 10, height: 10 })).toBe(true);
    expect(mustBeRedrawn({ size: 1, type: "image/tiff" }, { width: 10, height: 10 })).toBe(true);
    expect(mustBeRedrawn({ size: 1, type: "text/plain" }, null)).toBe(false);
  });

  it("is made smaller, never larger, in its own proportions", () => {
    expect(fitted({ width: 4000, height: 2000 }, 2048)).toEqual({ width: 2048, height: 1024 });
    expect(fitted({ width: 30, height: 20 }, 2048)).toEqual({ width: 30, height: 20 });
    expect(fitted({ width: 100_000, height: 1 }, 2048)).toEqual({ width: 2048, height: 1 });
  });
});
