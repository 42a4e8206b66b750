/** The service's API (docs/api.md), one function a call. */
import * as v from "valibot";

import { Problem, retryAfterSeconds } from "./problem";
import {
  type Captioned,
  type Mine,
  type Rating,
  type ServedModel,
  type Statistics,
  type ToRate,
  captionedSchema,
  mineSchema,
  modelSchema,
  problemSchema,
  ratingSchema,
  statisticsSchema,
  toRateSchema,
} from "./schemas";
import type { Outgoing, Reply, Transport } from "./transport";

export interface CaptionCall {
  signal?: AbortSignal;
  onUpload?: (sent: number) => void;
  /** Whether the service may keep photo and caption; unless told otherwise, it may. */
  keep?: boolean;
  /** Whether others may see the photo, to rate its caption; unless told so, they may not. */
  share?: boolean;
}

export interface Api {
  caption: (photo: Blob, name: string, call?: CaptionCall) => Promise<Captioned>;
  rate: (captionId: string, rating: Rating, signal?: AbortSignal) => Promise<Rating>;
  /** One's own captions, the newest first. `before`: the `next` of the page before. */
  mine: (limit: number, before: string | null) => Promise<Mine>;
  /** What there is to rate of other people's; null if nothing is. `skip`: not this one any more. */
  nextToRate: (skip: string | null) => Promise<ToRate | null>;
  /** The photo of what there is to rate. */
  photoToRate: (captionId: string) => Promise<Blob>;
  erase: (captionId: string) => Promise<void>;
  /** Everything of the caller's. */
  eraseAll: () => Promise<void>;
  model: () => Promise<ServedModel>;
  statistics: (days: number) => Promise<Statistics>;
}

function jsonOf(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function refusal(reply: Reply): Problem {
  const read = v.safeParse(problemSchema, jsonOf(reply.body));
  const document = read.success ? read.output : {};
  return new Problem("refused", {
    status: reply.status,
    type: document.type,
    title: document.title,
    detail: document.detail,
    requestId: document.request_id ?? reply.header("X-Request-ID") ?? undefined,
    retryAfter: retryAfterSeconds(reply.header("Retry-After")),
  });
}

function understand<T>(schema: v.GenericSchema<unknown, T>, reply: Reply): T {
  const read = v.safeParse(schema, jsonOf(reply.body));
  if (!read.success) throw new Problem("garbled", null, v.summarize(read.issues));
  return read.output;
}

/** @param apiKey asked anew for every call, because the key may change in the settings */
export function createApi(transport: Transport, apiKey: () => string, base: string = document.baseURI): Api {
  /** Settled when the first answer is there. Without a key, it says by a cookie who we are from then on: two first
   * questions at once would be answered to two people, and one of them would be forgotten. */
  let first: Promise<unknown> | null = null;

  async function exchange(path: string, outgoing: Omit<Outgoing, "url" | "headers">): Promise<Reply> {
    if (first === null) {
      const asked = send(path, outgoing);
      first = asked.catch(() => null);
      return asked;
    }
    await first;
    return send(path, outgoing);
  }

  async function send(path: string, outgoing: Omit<Outgoing, "url" | "headers">): Promise<Reply> {
    const key = apiKey();
    const headers: Record<string, string> = { Accept: "application/json, application/problem+json" };
    if (key !== "") headers["Authorization"] = `Bearer ${key}`;
    if (typeof outgoing.body === "string") headers["Content-Type"] = "application/json";
    const reply = await transport({ ...outgoing, url: new URL(path, base).href, headers });
    if (reply.status < 200 || reply.status > 299) throw refusal(reply);
    return reply;
  }

  const captionPath = (captionId: string): string => `v1/captions/${encodeURIComponent(captionId)}`;

  return {
    async caption(photo, name, { keep = true, share = false, ...call } = {}) {
      const body = new FormData();
      body.append("image", photo, name);
      if (!keep) body.append("keep", "false");
      if (keep && share) body.append("share", "true");
      return understand(captionedSchema, await exchange("v1/captions", { method: "POST", body, ...call }));
    },
    async rate(captionId, rating, signal) {
      const body = JSON.stringify(rating);
      const reply = await exchange(`${captionPath(captionId)}/rating`, {
        method: "PUT",
        body,
        outlivesPage: true,
        ...(signal ? { signal } : {}),
      });
      return understand(ratingSchema, reply);
    },
    async nextToRate(skip) {
      const query = skip === null ? "" : `?${new URLSearchParams({ skip }).toString()}`;
      const reply = await exchange(`v1/ratings/next${query}`, { method: "GET" });
      return reply.status === 204 ? null : understand(toRateSchema, reply);
    },
    async photoToRate(captionId) {
      const path = `v1/ratings/${encodeURIComponent(captionId)}/photo`;
      const { blob } = await exchange(path, { method: "GET", file: true });
      if (blob === undefined) throw new Problem("garbled");
      return blob;
    },
    async erase(captionId) {
      await exchange(captionPath(captionId), { method: "DELETE", outlivesPage: true });
    },
    async mine(limit, before) {
      const query = new URLSearchParams({ limit: String(limit), ...(before === null ? {} : { before }) });
      return understand(mineSchema, await exchange(`v1/captions?${query.toString()}`, { method: "GET" }));
    },
    async eraseAll() {
      await exchange("v1/me", { method: "DELETE", outlivesPage: true });
    },
    async model() {
      return understand(modelSchema, await exchange("v1/model", { method: "GET" }));
    },
    async statistics(days) {
      const path = `v1/statistics?days=${String(days)}`;
      return understand(statisticsSchema, await exchange(path, { method: "GET" }));
    },
  };
}
