/** Which numbers say how good a model is, and what the others say about its captions. */
import type { Metric } from "@/api/schemas";

import { t } from "./language";
import { decimal } from "./numbers";

type Metrics = Readonly<Record<string, Metric>>;

/** Of these more is better. The literature gives them times a hundred. */
export const QUALITY = ["CIDEr", "METEOR", "ROUGE-L", "BLEU-4", "BLEU-3", "BLEU-2", "BLEU-1"];

const TRAITS = [
  ["photos", false],
  ["length", false],
  ["distinct_words", false],
  ["vocabulary_used", true],
  ["distinct_captions", true],
  ["unseen", true],
] as const;

const valueOf = (metric: Metric): number => (typeof metric === "number" ? metric : metric.value);

function written(value: number, share: boolean): string {
  if (share) return `${(100 * value).toFixed(0)} %`;
  return Number.isInteger(value) ? String(value) : decimal(value);
}

/** How good it is, in the order in which people look. */
export function quality(metrics: Metrics): [string, Metric][] {
  return QUALITY.flatMap((name): [string, Metric][] => {
    const metric = metrics[name];
    return metric === undefined ? [] : [[name, metric]];
  });
}

/** What its captions are like: label and value, as they are read. */
export function traits(metrics: Metrics): Record<string, string> {
  return Object.fromEntries(
    TRAITS.flatMap(([name, share]): [string, string][] => {
      const metric = metrics[name];
      return metric === undefined ? [] : [[t.traits[name], written(valueOf(metric), share)]];
    }),
  );
}
