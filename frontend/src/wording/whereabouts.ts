/**
 * Where an attention grid looks, in words: what the overlay shows to the eye, said to a screen reader.
 */
import type { Grid } from "@/api/schemas";

import { t } from "./language";

const ROWS = ["upper", "", "lower"] as const;
const COLUMNS = ["left", "", "right"] as const;

function third(position: number): 0 | 1 | 2 {
  if (position < 0.38) return 0;
  return position > 0.62 ? 2 : 1;
}

/** For example "the lower left", "the middle", "the top" or "the whole photo". */
export function whereabouts(grid: Grid): string {
  const rows = grid.length;
  const columns = grid[0]?.length ?? 0;
  let total = 0;
  let x = 0;
  let y = 0;
  let entropy = 0;
  grid.forEach((line, row) => {
    line.forEach((weight, column) => {
      total += weight;
      x += weight * (column + 0.5);
      y += weight * (row + 0.5);
    });
  });
  if (total <= 0) return t.places.all;
  for (const weight of grid.flat()) if (weight > 0) entropy -= (weight / total) * Math.log(weight / total);

  // Nearly even attention has a centre of mass too, but no place worth naming.
  const spread = entropy / Math.log(Math.max(2, rows * columns));
  if (spread > 0.97) return t.places.all;

  const vertical = ROWS[third(y / total / rows)];
  const horizontal = COLUMNS[third(x / total / columns)];
  if (vertical && horizontal) return t.places[`${vertical} ${horizontal}`];
  if (vertical) return vertical === "upper" ? t.places.top : t.places.bottom;
  if (horizontal) return t.places[horizontal];
  return t.places.middle;
}
