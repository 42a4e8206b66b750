/**
 * What the service answers (docs/api.md), checked where it comes in: past this module every value has its type.
 * Unknown keys are let through unread, so that a newer service does not break an older page.
 */
import * as v from "valibot";

const fraction = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const count = v.pipe(v.number(), v.minValue(0));
const stars = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(5));

/** ISO 639 code of what captions are in. Null where the service does not say: then no element claims a language. */
const languageSchema = v.nullish(v.string(), null);

/** Attention over the whole upright photo: rows from the top, weights at least 0. */
const gridSchema = v.pipe(v.array(v.array(v.number())), v.minLength(1));

const wordSchema = v.object({ text: v.string(), confidence: fraction, attention: v.nullable(gridSchema) });

export const captionedSchema = v.object({
  /** None where nothing is kept: such a caption can neither be rated nor erased. */
  caption_id: v.nullish(v.string(), null),
  caption: v.string(),
  language: languageSchema,
  /** How often people accept such captions; tells nothing where `familiar` is false. */
  confidence: fraction,
  /** Share of the model's validation photos that are at least as unlike what it learnt from. */
  familiarity: v.nullish(fraction, null),
  /** False: the photo is unlike anything the model learnt from. Null where the model does not know. */
  familiar: v.nullish(v.boolean(), null),
  words: v.array(wordSchema),
  alternatives: v.array(v.object({ caption: v.string(), confidence: fraction })),
  model: v.object({ name: v.string(), version: v.string() }),
  image: v.object({ width: v.number(), height: v.number() }),
  created_at: v.string(),
});

export const ratingSchema = v.object({
  stars,
  correction: v.nullable(v.string()),
  comment: v.nullable(v.string()),
});

/** A caption of somebody else's photo, which one may see and rate. */
export const toRateSchema = v.object({
  caption_id: v.string(),
  caption: v.string(),
  language: languageSchema,
  image: v.object({ width: v.number(), height: v.number() }),
});

/** One's own captions, the newest first, each with one's own rating. */
export const mineSchema = v.object({
  captions: v.array(
    v.pipe(
      v.object({ ...captionedSchema.entries, rating: v.nullable(ratingSchema) }),
      v.transform(({ rating, ...caption }) => ({ caption, rating })),
    ),
  ),
  /** Where the next page begins; null on the last one. */
  next: v.nullable(v.string()),
});

/** A metric is a bare number, or a value with its 95 % interval. */
const metricSchema = v.union([
  v.number(),
  v.object({ value: v.number(), low: v.number(), high: v.number() }),
]);

/** What is no number is left out: one odd note of a model must not cost its whole page. */
const metricsSchema = v.pipe(
  v.nullish(v.record(v.string(), v.unknown()), {}),
  v.transform((noted) =>
    Object.fromEntries(
      Object.entries(noted ?? {}).flatMap(([name, metric]) => {
        const read = v.safeParse(metricSchema, metric);
        return read.success ? [[name, read.output]] : [];
      }),
    ),
  ),
);

const factsSchema = v.nullish(v.record(v.string(), v.unknown()), {});

export const modelSchema = v.object({
  name: v.string(),
  version: v.string(),
  previous_version: v.nullish(v.string()),
  loaded_at: v.string(),
  input_size: v.nullish(v.number()),
  decoding: factsSchema,
  metrics: metricsSchema,
  lineage: factsSchema,
  card: v.nullish(v.string(), ""),
  keeping: v.nullish(v.object({ keep: v.boolean(), unrated_days: count, rated_days: count })),
});

const starCounts = v.object({ "1": count, "2": count, "3": count, "4": count, "5": count });

const daySchema = v.object({
  date: v.string(),
  captions: count,
  ratings: count,
  corrections: count,
  mean_stars: v.nullable(v.number()),
});

const versionSchema = v.object({
  version: v.string(),
  captions: count,
  ratings: count,
  corrections: count,
  mean_stars: v.nullable(v.number()),
  mean_confidence: v.nullable(v.number()),
  stars: starCounts,
});

export const statisticsSchema = v.object({
  days: count,
  from: v.string(),
  to: v.string(),
  totals: v.object({
    captions: count,
    ratings: count,
    corrections: count,
    mean_stars: v.nullable(v.number()),
    mean_confidence: v.nullable(v.number()),
    stars: starCounts,
  }),
  by_day: v.array(daySchema),
  by_version: v.array(versionSchema),
});

export const problemSchema = v.object({
  type: v.optional(v.string()),
  title: v.optional(v.string()),
  detail: v.optional(v.string()),
  request_id: v.optional(v.string()),
});

export type Grid = v.InferOutput<typeof gridSchema>;
export type Word = v.InferOutput<typeof wordSchema>;
export type Captioned = v.InferOutput<typeof captionedSchema>;
export type Rating = v.InferOutput<typeof ratingSchema>;
export type ToRate = v.InferOutput<typeof toRateSchema>;
export type Mine = v.InferOutput<typeof mineSchema>;
export type Metric = v.InferOutput<typeof metricSchema>;
export type Keeping = NonNullable<v.InferOutput<typeof modelSchema>["keeping"]>;
export type ServedModel = v.InferOutput<typeof modelSchema>;
export type Day = v.InferOutput<typeof daySchema>;
export type VersionStatistics = v.InferOutput<typeof versionSchema>;
export type Statistics = v.InferOutput<typeof statisticsSchema>;
export type StarCount = keyof v.InferOutput<typeof starCounts>;
