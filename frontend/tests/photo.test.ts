import { describe, expect, it } from "vitest";

import { LIMITS, fitted, mustBeRedrawn } from "@/photo/prepare";

const jpeg = (size: number): { size: number; type: string } => ({ size, type: "image/jpeg" });

describe("a photo before it is sent", () => {
  it("is left alone within the service's limits", () => {
    expect(mustBeRedrawn(jpeg(LIMITS.bytes), { width: 5000, height: 5000 })).toBe(false);
  });

  it("is redrawn when it has too many bytes or pixels", () => {
    expect(mustBeRedrawn(jpeg(LIMITS.bytes + 1), { width: 100, height: 100 })).toBe(true);
    expect(mustBeRedrawn(jpeg(17_000), { width: 12_000, height: 12_000 })).toBe(true);
  });

  it("is redrawn when only the browser can read it", () => {
    expect(mustBeRedrawn({ size: 1, type: "image/heic" }, { width: 10, height: 10 })).toBe(true);
    expect(mustBeRedrawn({ size: 1, type: "text/plain" }, null)).toBe(false);
  });

  it("is made smaller, never larger, in its own proportions", () => {
    expect(fitted({ width: 4000, height: 2000 }, 2048)).toEqual({ width: 2048, height: 1024 });
    expect(fitted({ width: 30, height: 20 }, 2048)).toEqual({ width: 30, height: 20 });
    expect(fitted({ width: 100_000, height: 1 }, 2048)).toEqual({ width: 2048, height: 1 });
  });
});
