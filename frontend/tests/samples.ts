/** Small, valid answers of the service for the tests to bend. */
import type { Api } from "@/api/client";
import type { Outgoing, Reply, Transport } from "@/api/transport";
import type { Captioned, ServedModel } from "@/api/schemas";

export const CAPTIONED: Captioned = {
  caption_id: "c1",
  caption: "a red boat",
  language: "en",
  confidence: 0.7,
  familiarity: 0.4,
  familiar: true,
  words: [
    {
      text: "a",
      confidence: 0.95,
      attention: [
        [0.25, 0.25],
        [0.25, 0.25],
      ],
    },
    {
      text: "red",
      confidence: 0.7,
      attention: [
        [0, 0],
        [1, 0],
      ],
    },
    {
      text: "boat",
      confidence: 0.4,
      attention: [
        [0, 0],
        [0.9, 0.1],
      ],
    },
  ],
  alternatives: [{ caption: "a small boat", confidence: 0.3 }],
  model: { name: "captioner", version: "3" },
  image: { width: 64, height: 48 },
  created_at: "2026-11-22T09:31:07.120Z",
};

export const MODEL: ServedModel = {
  name: "captioner",
  version: "3",
  previous_version: null,
  loaded_at: "2026-11-22T09:31:07.120Z",
  input_size: 224,
  decoding: {},
  metrics: {},
  lineage: {},
  card: "",
};

export function reply(status: number, body: unknown, headers: Record<string, string> = {}): Reply {
  return { status, body: JSON.stringify(body), header: (name) => headers[name] ?? null };
}

/** A transport that answers from a list and keeps what it was sent. */
export function scripted(...replies: Reply[]): { transport: Transport; sent: Outgoing[] } {
  const sent: Outgoing[] = [];
  const transport: Transport = (outgoing) => {
    sent.push(outgoing);
    const next = replies.shift();
    return next ? Promise.resolve(next) : Promise.reject(new Error("no more replies"));
  };
  return { transport, sent };
}

const unexpected = (): Promise<never> => Promise.reject(new Error("not expected in this test"));

export function apiWith(calls: Partial<Api>): Api {
  return {
    caption: unexpected,
    rate: unexpected,
    nextToRate: unexpected,
    photoToRate: unexpected,
    erase: unexpected,
    mine: unexpected,
    eraseAll: unexpected,
    model: unexpected,
    statistics: unexpected,
    ...calls,
  };
}
