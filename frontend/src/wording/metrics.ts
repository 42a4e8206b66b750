/** Which numbers say how good a model is, and what the others say about its captions. */
import type { Metric } from "@/api/schemas";

type Metrics = Readonly<Record<string, Metric>>;

/** Of these more is better. The literature gives them times a hundred. */
export const QUALITY = ["CIDEr", "METEOR", "ROUGE-L", "BLEU-4", "BLEU-3", "BLEU-2", "BLEU-1"];

const TRAITS: Readonly<Record<string, [label: string, share: boolean]>> = {
  photos: ["Measured on photos", false],
  length: ["Words a caption", false],
  distinct_words: ["Different words", false],
  vocabulary_used: ["Of its vocabulary", true],
  distinct_captions: ["Different captions", true],
  unseen: ["Captions not in the training data", true],
};

const valueOf = (metric: Metric): number => (typeof metric === "number" ? metric : metric.value);

function written(value: number, share: boolean): string {
  if (share) return `${(100 * value).toFixed(0)} %`;
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
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
    Object.entries(TRAITS).flatMap(([name, [label, share]]): [string, string][] => {
      const metric = metrics[name];
      return metric === undefined ? [] : [[label, written(valueOf(metric), share)]];
    }),
  );
}
