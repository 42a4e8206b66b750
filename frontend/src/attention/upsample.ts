/**
 * A coarse attention grid made smooth. The uniform cubic B-spline blurs a little but, unlike Catmull-Rom,
 * never overshoots: no place looks attended that was not.
 */
import type { Grid } from "@/api/schemas";

function splineWeights(t: number): [number, number, number, number] {
  const s = 1 - t;
  return [
    (s * s * s) / 6,
    (3 * t * t * t - 6 * t * t + 4) / 6,
    (3 * s * s * s - 6 * s * s + 4) / 6,
    (t * t * t) / 6,
  ];
}

const clamp = (index: number, length: number): number => Math.min(Math.max(index, 0), length - 1);

/** @returns size x size values in [0, 1], row by row, where 1 is the most attended place. */
export function upsample(grid: Grid, size: number): Float32Array<ArrayBuffer> {
  const rows = grid.length;
  const columns = grid[0]?.length ?? 0;
  const smooth = new Float32Array(size * size);
  let highest = 0;
  for (let y = 0; y < size; y++) {
    const v = ((y + 0.5) / size) * rows - 0.5;
    const top = Math.floor(v);
    const vertical = splineWeights(v - top);
    for (let x = 0; x < size; x++) {
      const u = ((x + 0.5) / size) * columns - 0.5;
      const left = Math.floor(u);
      const horizontal = splineWeights(u - left);
      let value = 0;
      vertical.forEach((weightY, j) => {
        const line = grid[clamp(top - 1 + j, rows)];
        horizontal.forEach((weightX, i) => {
          value += weightY * weightX * (line?.[clamp(left - 1 + i, columns)] ?? 0);
        });
      });
      smooth[y * size + x] = value;
      highest = Math.max(highest, value);
    }
  }
  // Divided by the peak, not stretched from the minimum: attention that is even everywhere stays even.
  if (highest > 0) smooth.forEach((value, i) => (smooth[i] = value / highest));
  return smooth;
}
