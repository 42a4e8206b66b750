import { describe, expect, it, vi } from "vitest";

import type { CaptionCall } from "@/api/client";
import { Problem } from "@/api/problem";
import type { Captioned } from "@/api/schemas";
import { useCaptioning } from "@/composables/useCaptioning";
import type { Photo } from "@/photo/prepare";

import { CAPTIONED, apiWith } from "./samples";

const FILE = new File(["x"], "boat.png", { type: "image/png" });
const prepare = (file: File): Promise<Photo> =>
  Promise.resolve({ blob: file, name: file.name, url: `blob:${file.name}` });

/** A caption call that the test answers by hand. */
function manual(): {
  calls: { call: CaptionCall; answer: (result: Captioned) => void; refuse: (problem: Problem) => void }[];
  caption: (photo: Blob, name: string, call?: CaptionCall) => Promise<Captioned>;
} {
  const calls: ReturnType<typeof manual>["calls"] = [];
  return {
    calls,
    caption: (_photo, _name, call = {}) =>
      new Promise((answer, refuse) => {
        calls.push({ call, answer, refuse });
      }),
  };
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

describe("captioning", () => {
  it("goes from the photo over sending and looking to its caption", async () => {
    const { calls, caption } = manual();
    const remember = vi.fn();
    const { stage, start } = useCaptioning(apiWith({ caption }), remember, prepare);
    expect(stage.value.name).toBe("empty");
    void start(FILE);
    expect(stage.value).toMatchObject({ name: "working", step: "preparing" });
    await settled();
    calls[0]?.call.onUpload?.(0.5);
    expect(stage.value).toMatchObject({ step: "sending", sent: 0.5 });
    calls[0]?.call.onUpload?.(1);
    expect(stage.value).toMatchObject({ step: "looking" });
    calls[0]?.answer(CAPTIONED);
    await settled();
    expect(stage.value).toMatchObject({ name: "captioned", photoUrl: "blob:boat.png", fresh: true });
    expect(remember).toHaveBeenCalledOnce();
  });

  it("says of each photo whether it may be kept", async () => {
    const { calls, caption } = manual();
    let mayKeep = false;
    const { start } = useCaptioning(apiWith({ caption }), vi.fn(), prepare, () => mayKeep);
    await Promise.race([start(FILE), settled()]);
    mayKeep = true;
    await Promise.race([start(FILE), settled()]);
    expect(calls.map(({ call }) => call.keep)).toEqual([false, true]);
  });

  it("keeps the photo of a failed attempt, so that it can be sent again", async () => {
    const { calls, caption } = manual();
    const { stage, start, retry } = useCaptioning(apiWith({ caption }), vi.fn(), prepare);
    void start(FILE);
    await settled();
    calls[0]?.refuse(new Problem("unreachable"));
    await settled();
    expect(stage.value).toMatchObject({ name: "failed", photo: { name: "boat.png" } });
    void retry();
    calls[1]?.answer(CAPTIONED);
    await settled();
    expect(stage.value.name).toBe("captioned");
  });

  it("lets a cancelled attempt end in silence", async () => {
    const { calls, caption } = manual();
    const { stage, start, clear } = useCaptioning(apiWith({ caption }), vi.fn(), prepare);
    void start(FILE);
    await settled();
    clear();
    expect(calls[0]?.call.signal?.aborted).toBe(true);
    calls[0]?.refuse(new Problem("cancelled"));
    await settled();
    expect(stage.value.name).toBe("empty");
  });

  it("erases what was made of a photo that was cancelled after it had arrived", async () => {
    const { calls, caption } = manual();
    const erase = vi.fn(() => Promise.resolve());
    const remember = vi.fn();
    const { stage, start, clear } = useCaptioning(apiWith({ caption, erase }), remember, prepare);
    void start(FILE);
    await settled();
    calls[0]?.call.onUpload?.(1);
    clear();
    expect(calls[0]?.call.signal?.aborted).toBe(false);
    expect(stage.value.name).toBe("empty");
    calls[0]?.answer({ ...CAPTIONED, caption_id: "made" });
    await settled();
    expect(erase).toHaveBeenCalledExactlyOnceWith("made");
    expect(remember).not.toHaveBeenCalled();
    expect(stage.value.name).toBe("empty");
  });

  it("shows the photo chosen last, whichever answer comes first", async () => {
    const { calls, caption } = manual();
    const { stage, start } = useCaptioning(apiWith({ caption }), vi.fn(), prepare);
    void start(FILE);
    await settled();
    void start(new File(["y"], "dog.png"));
    await settled();
    calls[1]?.answer({ ...CAPTIONED, caption_id: "second" });
    await settled();
    calls[0]?.answer({ ...CAPTIONED, caption_id: "first" });
    await settled();
    expect(stage.value).toMatchObject({ result: { caption_id: "second" } });
  });

  it("fails with a problem when an example cannot be fetched", async () => {
    const { stage, start } = useCaptioning(apiWith({}), vi.fn(), prepare);
    await start(Promise.reject(new Problem("offline")));
    expect(stage.value).toMatchObject({ name: "failed", photo: null });
  });
});
