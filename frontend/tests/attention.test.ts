import { describe, expect, it } from "vitest";

import { paint, ramp } from "@/attention/ramp";
import { upsample } from "@/attention/upsample";

describe("upsampled attention", () => {
  const SIZE = 28;
  const peaked = Array.from({ length: 7 }, (_, y) =>
    Array.from({ length: 7 }, (_, x) => (y === 1 && x === 5 ? 1 : 0)),
  );

  it("has its peak where the grid has it", () => {
    const field = upsample(peaked, SIZE);
    const top = field.indexOf(Math.max(...field));
    expect(Math.floor((top % SIZE) / 4)).toBe(5);
    expect(Math.floor(top / SIZE / 4)).toBe(1);
  });

  it("stays between nothing and the peak: the spline does not overshoot", () => {
    const field = upsample(peaked, SIZE);
    expect(Math.min(...field)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...field)).toBeCloseTo(1);
  });

  it("keeps even attention even, also at the borders", () => {
    for (const value of upsample(
      [
        [0.25, 0.25],
        [0.25, 0.25],
      ],
      SIZE,
    ))
      expect(value).toBeCloseTo(1);
  });

  it("is nothing for nothing, and takes grids that are not square", () => {
    expect(Math.max(...upsample([[0, 0]], SIZE))).toBe(0);
    expect(upsample([[0, 1, 0]], SIZE)).toHaveLength(SIZE * SIZE);
  });
});

describe("the ramp", () => {
  it("veils less the more was looked", () => {
    const alphas = Array.from({ length: 101 }, (_, i) => ramp(i / 100)[3]);
    expect(alphas).toEqual([...alphas].sort((a, b) => b - a));
    expect(ramp(0)[3]).toBeGreaterThan(0.7);
    expect(ramp(1)[3]).toBeLessThan(0.1);
  });

  it("holds outside of its range", () => {
    expect(ramp(-1)).toEqual(ramp(0));
    expect(ramp(2)).toEqual(ramp(1));
  });

  it("paints one pixel a value", () => {
    const pixels = new Uint8ClampedArray(8);
    paint(Float32Array.of(0, 1), pixels);
    expect(pixels[3]).toBeGreaterThan(pixels[7] ?? 255);
  });
});
