/**
 * Attention as light: what the model ignored lies in a dark veil, what it looked at shines through, warm at
 * the edge. The photo itself stays readable, which a rainbow of opaque colours would not allow.
 */
type Rgba = readonly [red: number, green: number, blue: number, alpha: number];

interface Stop {
  at: number;
  colour: Rgba;
}

const DARK: Stop = { at: 0, colour: [18, 12, 24, 0.84] };
const STOPS: readonly Stop[] = [
  { at: 0.3, colour: [44, 14, 48, 0.74] },
  { at: 0.55, colour: [150, 46, 40, 0.5] },
  { at: 0.78, colour: [238, 130, 48, 0.26] },
  { at: 1, colour: [255, 214, 140, 0.06] },
];

/** The colour over a place with this share of the highest attention, 0 to 1. */
export function ramp(attention: number): Rgba {
  const t = Math.min(Math.max(attention, 0), 1);
  let low = DARK;
  for (const high of STOPS) {
    if (t <= high.at) {
      const mix = (t - low.at) / (high.at - low.at);
      const between = (i: 0 | 1 | 2 | 3): number => low.colour[i] + (high.colour[i] - low.colour[i]) * mix;
      return [between(0), between(1), between(2), between(3)];
    }
    low = high;
  }
  return low.colour;
}

/** Writes the ramp's colour for every value of `field` into `pixels` (RGBA, four bytes a value). */
export function paint(field: Float32Array, pixels: Uint8ClampedArray): void {
  field.forEach((value, i) => {
    const [red, green, blue, alpha] = ramp(value);
    pixels.set([red, green, blue, alpha * 255], i * 4);
  });
}
