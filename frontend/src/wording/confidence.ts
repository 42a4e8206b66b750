/** Confidence as a person would say it. The bands are few on purpose: finer ones would promise too much. */

import { t } from "./language";
import type { Band } from "./names";

export function band(confidence: number): Band {
  if (confidence >= 0.85) return "sure";
  if (confidence >= 0.6) return "fairly";
  if (confidence >= 0.35) return "unsure";
  return "guess";
}

export const BAND_NAMES: Readonly<Record<Band, string>> = t.bands;

export function percent(fraction: number): string {
  // 99.6 % is not certainty, and 0.3 % is not impossible.
  const rounded = Math.round(fraction * 100);
  if (rounded >= 100 && fraction < 1) return t.overMost;
  if (rounded <= 0 && fraction > 0) return t.underLeast;
  return `${rounded} %`;
}

interface Sureness {
  text: string;
  confidence: number;
}

/** One or two sentences: how sure of the whole, and at which words it hesitated most. */
export function confidenceSentence(confidence: number, words: readonly Sureness[]): string {
  const doubtful = words
    .filter((word) => word.confidence < 0.6)
    .sort((a, b) => a.confidence - b.confidence)
    .map((word) => t.quoted(word.text));
  const most = [...new Set(doubtful)].slice(0, 2);
  const whole = t.sureness[band(confidence)];
  if (most.length === 0 || band(confidence) === "guess") return whole;
  return `${whole} ${t.hesitated(most)}`;
}
