import { describe, expect, it } from "vitest";

import { type Box, dayX, marks, smoothed, starY } from "@/charts/timeline";

const BOX: Box = { width: 120, top: 10, height: 80, left: 10, right: 10 };
const day = (mean: number | null, ratings: number): Parameters<typeof marks>[0][number] => ({
  date: "2026-11-22",
  captions: 0,
  ratings,
  corrections: 0,
  mean_stars: mean,
});

describe("the timeline", () => {
  it("puts five stars at the top and one at the bottom", () => {
    expect(starY(5, BOX)).toBe(10);
    expect(starY(1, BOX)).toBe(90);
  });

  it("keeps the days inside the box, oldest on the left", () => {
    expect(dayX(0, 10, BOX)).toBeGreaterThan(BOX.left);
    expect(dayX(9, 10, BOX)).toBeLessThan(BOX.width - BOX.right);
  });

  it("marks only days that were rated", () => {
    expect(marks([day(4, 2), day(null, 0), day(3, 1)], BOX)).toHaveLength(2);
  });

  it("weighs the mean of the week by ratings", () => {
    const path = smoothed([day(1, 1), day(5, 3)], BOX);
    expect(path.split("L")[1]).toBe(`${dayX(1, 2, BOX).toFixed(1)},${starY(4, BOX).toFixed(1)}`);
  });

  it("is an empty line without ratings", () => {
    expect(smoothed([day(null, 0)], BOX)).toBe("");
  });
});
