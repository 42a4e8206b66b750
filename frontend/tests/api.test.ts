import { describe, expect, it, vi } from "vitest";

import { createApi } from "@/api/client";
import { Problem, retryAfterSeconds } from "@/api/problem";

import { CAPTIONED, reply, scripted } from "./samples";

const BASE = "http://service/captions/";

async function problemOf(promise: Promise<unknown>): Promise<Problem> {
  const error: unknown = await promise.then(
    () => new Error("it did not fail"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Problem)) throw error;
  return error;
}

describe("the API client", () => {
  it("sends the photo as the multipart field `image`, below the page's own address", async () => {
    const { transport, sent } = scripted(reply(201, CAPTIONED));
    const photo = new Blob(["x"]);
    const append = vi.spyOn(FormData.prototype, "append");
    const result = await createApi(transport, () => "", BASE).caption(photo, "boat.png");
    expect(result.caption).toBe("a red boat");
    expect(sent[0]?.url).toBe("http://service/captions/v1/captions");
    expect(append).toHaveBeenCalledExactlyOnceWith("image", photo, "boat.png");
  });

  it("asks that nothing is kept, and understands the caption without an id", async () => {
    const { transport, sent } = scripted(reply(200, { ...CAPTIONED, caption_id: undefined, kept: false }));
    const api = createApi(transport, () => "", BASE);
    const result = await api.caption(new Blob(["x"]), "boat.png", { keep: false });
    expect(result.caption_id).toBeNull();
    expect((sent[0]?.body as FormData).get("keep")).toBe("false");
  });

  it("sends a key only when there is one, and asks for it anew at every call", async () => {
    let key = "";
    const { transport, sent } = scripted(reply(204, null), reply(204, null));
    const api = createApi(transport, () => key, BASE);
    await api.erase("c1");
    key = "clk_secret";
    await api.erase("c1");
    expect(sent.map(({ headers }) => headers["Authorization"])).toEqual([undefined, "Bearer clk_secret"]);
  });

  it("asks for one's own captions page by page, and erases everything", async () => {
    const page = {
      captions: [{ ...CAPTIONED, kept: true, rating: null }],
      next: "20261122T093107.120000-c1",
    };
    const { transport, sent } = scripted(reply(200, page), reply(202, { remaining: ["photo archive"] }));
    const api = createApi(transport, () => "", BASE);
    const read = await api.mine(2, "20261122T093107.120000-c0");
    expect(read.captions[0]?.caption.caption_id).toBe("c1");
    expect(read.next).toBe(page.next);
    await api.eraseAll();
    expect(sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
      `GET ${BASE}v1/captions?limit=2&before=20261122T093107.120000-c0`,
      `DELETE ${BASE}v1/me`,
    ]);
  });

  it("asks nothing else before the first answer, which says who is calling", async () => {
    const { transport, sent } = scripted(reply(500, null), reply(204, null), reply(204, null));
    const api = createApi(transport, () => "", BASE);
    const asked = [problemOf(api.model()), api.erase("c1"), api.erase("c2")];
    expect(sent).toHaveLength(1);
    await Promise.all(asked);
    expect(sent).toHaveLength(3);
  });

  it("keeps an id inside its own path segment", async () => {
    const { transport, sent } = scripted(reply(204, null));
    await createApi(transport, () => "", BASE).erase("../statistics?x");
    expect(sent[0]?.url).toBe("http://service/captions/v1/captions/..%2Fstatistics%3Fx");
  });

  it("turns a problem document into a problem with its wait and its request id", async () => {
    const document = { type: "urn:captionloop:problem:rate-limited", title: "Too many", request_id: "r1" };
    const { transport } = scripted(reply(429, document, { "Retry-After": "7" }));
    const problem = await problemOf(createApi(transport, () => "", BASE).model());
    expect(problem.kind).toBe("refused");
    expect(problem.refusal).toMatchObject({ status: 429, title: "Too many", requestId: "r1", retryAfter: 7 });
  });

  it("understands a refusal without a document, from a proxy say", async () => {
    const { transport } = scripted({ status: 502, body: "<html>", header: () => null });
    expect((await problemOf(createApi(transport, () => "", BASE).model())).refusal?.status).toBe(502);
  });

  it.each([
    ["not JSON", "<!doctype html>"],
    ["a missing field", JSON.stringify({ caption: "a dog" })],
    ["a confidence above one", JSON.stringify({ ...CAPTIONED, confidence: 1.5 })],
    ["words that are no list", JSON.stringify({ ...CAPTIONED, words: "a dog" })],
  ])("refuses an answer that is %s", async (_, body) => {
    const { transport } = scripted({ status: 201, body, header: () => null });
    const problem = await problemOf(createApi(transport, () => "", BASE).caption(new Blob(["x"]), "x.png"));
    expect(problem.kind).toBe("garbled");
  });

  it("takes metrics as numbers and with intervals, leaves out what is neither, needs no card", async () => {
    const metrics = { CIDEr: { value: 0.5, low: 0.4, high: 0.6 }, "BLEU-4": 0.2 };
    const noted = { ...metrics, METEOR: null, split: "test", calibration_error: { before: 0.2, after: 0.1 } };
    const { transport } = scripted(
      reply(200, { name: "captioner", version: "3", loaded_at: "now", metrics: noted }),
    );
    const model = await createApi(transport, () => "", BASE).model();
    expect(model.metrics).toEqual(metrics);
    expect(model.card).toBe("");
  });
});

describe("Retry-After", () => {
  it.each([
    ["12", 12],
    ["0", 0],
    ["1.2", 2],
    ["Sun, 22 Nov 2026 00:00:30 GMT", 30],
    ["Sat, 21 Nov 2026 00:00:00 GMT", 0],
    ["soon", undefined],
    ["", undefined],
    [null, undefined],
  ])("%s means %s seconds", (header, seconds) => {
    expect(retryAfterSeconds(header, Date.UTC(2026, 10, 22))).toBe(seconds);
  });
});
