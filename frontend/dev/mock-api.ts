/**
 * A stand-in for the service, for working on the page without one (`npm run dev:mock`, `npm run preview:mock`).
 * Never part of what is built. The file's name decides: "busy.png" is refused with 429, "broken.png" with 422,
 * "slow.png" takes a while, "blind.png" is captioned without attention, "unlike.png" is unlike anything learnt from.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Connect, Plugin } from "vite";

const SIDE = 7;
const WORDS: readonly [text: string, confidence: number, row: number, column: number, width: number][] = [
  ["a", 0.97, 3, 3, 3],
  ["red", 0.91, 4, 2, 1.1],
  ["boat", 0.88, 4.4, 2.2, 1.2],
  ["on", 0.72, 5, 3, 1.8],
  ["the", 0.93, 5, 3, 2.4],
  ["water", 0.81, 5.6, 4, 2],
  ["at", 0.52, 2, 3, 2.6],
  ["dusk", 0.31, 0.8, 4.6, 1.5],
];

function gaussian(row: number, column: number, width: number): number[][] {
  const cells = Array.from({ length: SIDE }, (_, y) =>
    Array.from({ length: SIDE }, (_, x) =>
      Math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width ** 2)),
    ),
  );
  const total = cells.flat().reduce((sum, value) => sum + value, 0);
  return cells.map((line) => line.map((value) => value / total));
}

function captioned(blind: boolean, unlike: boolean): unknown {
  return {
    caption_id: `mock-${String(Date.now())}`,
    caption: WORDS.map(([text]) => text).join(" "),
    language: "en",
    confidence: 0.68,
    familiarity: unlike ? 0 : 0.43,
    familiar: !unlike,
    words: WORDS.map(([text, confidence, row, column, width]) => ({
      text,
      confidence,
      attention: blind ? null : gaussian(row, column, width),
    })),
    alternatives: [
      { caption: "a small boat sails on the sea", confidence: 0.49 },
      { caption: "a red boat in front of the sunset", confidence: 0.33 },
    ],
    model: { name: "captioner", version: "3" },
    image: { width: 640, height: 480 },
    created_at: new Date().toISOString(),
  };
}

const MODEL = {
  name: "captioner",
  version: "3",
  previous_version: "2",
  loaded_at: "2026-11-22T08:00:12.000Z",
  input_size: 224,
  decoding: { beam_width: 3, max_length: 24 },
  metrics: {
    CIDEr: { value: 0.58, low: 0.55, high: 0.61 },
    METEOR: { value: 0.22, low: 0.213, high: 0.226 },
    "ROUGE-L": { value: 0.47, low: 0.462, high: 0.479 },
    "BLEU-4": { value: 0.24, low: 0.23, high: 0.25 },
    "BLEU-1": 0.66,
    length: { value: 9.8, low: 9.6, high: 10.1 },
    unseen: 0.62,
    photos: 1000,
    split: "test",
  },
  lineage: {
    git_commit: "c2a945b",
    parent_version: "2",
    feedback_rows: 212,
    corpus_sha256: "9f1c".repeat(16),
    training: { seed: 0 },
  },
  card: [
    "# captioner 3",
    "A small model that writes **one sentence** about a photo.",
    "## What it is for",
    "- Trying out captions\n- Learning from ratings\n",
    "## What it is not for",
    "Anything that needs to be right. <script>alert(1)</script> [a link](https://example.org) ![](https://example.org/x.png)",
    "| split | photos |\n|---|---|\n| train | 6000 |\n| test | 1000 |",
  ].join("\n\n"),
};

function statistics(days: number): unknown {
  const byDay = Array.from({ length: days }, (_, i) => {
    const ratings = i % 6 === 2 ? 0 : Math.round(5 + 4 * Math.sin(i / 3) + (i / days) * 6);
    return {
      date: new Date(Date.UTC(2026, 10, 22) - (days - 1 - i) * 86_400_000).toISOString().slice(0, 10),
      captions: ratings * 5,
      ratings,
      corrections: Math.round(ratings / 3),
      mean_stars: ratings ? 3 + (i / days) * 0.9 + 0.35 * Math.sin(i * 1.7) : null,
    };
  });
  const version = (name: string, stars: number[], mean: number, captions: number): unknown => ({
    version: name,
    captions,
    ratings: stars.reduce((sum, count) => sum + count, 0),
    corrections: 15,
    mean_stars: mean,
    mean_confidence: 0.6,
    stars: Object.fromEntries(stars.map((count, i) => [String(i + 1), count])),
  });
  return {
    days,
    from: byDay[0]?.date,
    to: byDay.at(-1)?.date,
    totals: {
      captions: 1280,
      ratings: 214,
      corrections: 61,
      mean_stars: 3.61,
      mean_confidence: 0.58,
      stars: { "1": 17, "2": 25, "3": 44, "4": 66, "5": 62 },
    },
    by_day: byDay,
    by_version: [version("3", [3, 5, 12, 27, 24], 3.9, 310), version("2", [14, 20, 32, 39, 38], 3.47, 970)],
  };
}

function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const type = status < 400 ? "application/json" : "application/problem+json";
  response.writeHead(status, {
    "Content-Type": type,
    "X-Request-ID": "4f1c2a7be0d94f0c8a5f3d7c1b2e9a60",
    ...headers,
  });
  response.end(status === 204 ? undefined : JSON.stringify(body));
}

const problem = (status: number, name: string, title: string, detail: string): unknown => ({
  type: `urn:captionloop:problem:${name}`,
  title,
  status,
  detail,
});

function caption(upload: string, response: ServerResponse): void {
  if (upload.includes('filename="busy')) {
    const limited = problem(429, "rate-limited", "Too many requests", "60 captions a minute are allowed.");
    answer(response, 429, limited, { "Retry-After": "12" });
  } else if (upload.includes('filename="broken')) {
    const detail = "The file is not an image of a kind that is accepted.";
    answer(response, 422, problem(422, "image-unreadable", "The image cannot be read", detail));
  } else {
    const wait = upload.includes('filename="slow') ? 30_000 : 600;
    const named = (start: string): boolean => upload.includes(`filename="${start}`);
    setTimeout(() => answer(response, 201, captioned(named("blind"), named("unlike"))), wait);
  }
}

function handle(request: IncomingMessage, body: string, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://mock");
  if (request.method === "POST") caption(body, response);
  else if (request.method === "GET" && url.pathname.endsWith("/captions"))
    answer(response, 200, {
      captions: [{ ...(captioned(false, false) as object), rating: null }],
      next: null,
    });
  else if (url.pathname.endsWith("/ratings/next"))
    answer(response, 200, {
      caption_id: `mock-other-${String(Date.now())}`,
      caption: "a yellow duck on a pond",
      language: "en",
      image: { width: 640, height: 480 },
    });
  else if (url.pathname.endsWith("/photo")) {
    response.writeHead(200, { "Content-Type": "image/svg+xml" });
    response.end(
      '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><rect width="640" height="480" fill="#7ba6b8"/><circle cx="320" cy="260" r="90" fill="#e0c04a"/></svg>',
    );
  } else if (request.method === "DELETE") answer(response, 204, null);
  else if (request.method === "PUT")
    answer(response, 200, { correction: null, comment: null, ...JSON.parse(body) });
  else if (url.pathname.endsWith("/model")) answer(response, 200, MODEL);
  else answer(response, 200, statistics(Number(url.searchParams.get("days") ?? 30)));
}

const middleware: Connect.NextHandleFunction = (request, response, next) => {
  if (!request.url?.startsWith("/v1/")) {
    next();
    return;
  }
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => handle(request, Buffer.concat(chunks).toString("latin1"), response));
};

export function mockApi(): Plugin {
  return {
    name: "captionloop-mock-api",
    configureServer: (server) => void server.middlewares.use(middleware),
    configurePreviewServer: (server) => void server.middlewares.use(middleware),
  };
}
