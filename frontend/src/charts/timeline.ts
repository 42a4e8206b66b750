/** The geometry of the ratings-over-time chart, apart from how it is drawn. */
import type { Day } from "@/api/schemas";

export interface Box {
  width: number;
  top: number;
  height: number;
  left: number;
  right: number;
}

export interface Mark {
  x: number;
  y: number;
  day: Day;
}

export const starY = (stars: number, box: Box): number => box.top + box.height * (1 - (stars - 1) / 4);

export function dayX(index: number, days: number, box: Box): number {
  const inner = box.width - box.left - box.right;
  return box.left + (inner * (index + 0.5)) / Math.max(1, days);
}

/** One mark per day that has ratings, at its mean number of stars. */
export function marks(days: readonly Day[], box: Box): Mark[] {
  return days.flatMap((day, i) =>
    day.mean_stars === null ? [] : [{ x: dayX(i, days.length, box), y: starY(day.mean_stars, box), day }],
  );
}

/** The mean of the last seven days, weighted by ratings: single days with two ratings jump too much to be read. */
export function smoothed(days: readonly Day[], box: Box, window = 7): string {
  let path = "";
  days.forEach((_, i) => {
    const span = days.slice(Math.max(0, i - window + 1), i + 1);
    const ratings = span.reduce((sum, day) => sum + day.ratings, 0);
    if (ratings === 0) return;
    const mean = span.reduce((sum, day) => sum + (day.mean_stars ?? 0) * day.ratings, 0) / ratings;
    const point = `${dayX(i, days.length, box).toFixed(1)},${starY(mean, box).toFixed(1)}`;
    path += `${path === "" ? "M" : "L"}${point}`;
  });
  return path;
}
