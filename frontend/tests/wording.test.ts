import { describe, expect, it } from "vitest";

import { Problem } from "@/api/problem";
import { BAND_NAMES, band, confidenceSentence, percent } from "@/wording/confidence";
import { gapsAfter } from "@/wording/gaps";
import { t } from "@/wording/language";
import { renderCard } from "@/wording/markdown";
import { quality, traits } from "@/wording/metrics";
import { counted, meanStars, shortDay } from "@/wording/numbers";
import { explain } from "@/wording/problems";
import { whereabouts } from "@/wording/whereabouts";

describe("confidence in words", () => {
  it("never sounds less sure of a higher confidence", () => {
    const order = ["guessing", "not so sure", "fairly sure", "very sure"];
    const ranks = Array.from({ length: 101 }, (_, i) => order.indexOf(BAND_NAMES[band(i / 100)]));
    expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
    expect(new Set(ranks)).toEqual(new Set([0, 1, 2, 3]));
  });

  it("does not round doubt away", () => {
    expect(percent(0.998)).toBe("over 99 %");
    expect(percent(0.001)).toBe("under 1 %");
    expect(percent(1)).toBe("100 %");
    expect(percent(0.71)).toBe("71 %");
  });

  it("names the two words the model hesitated at most", () => {
    const words = [
      { text: "a", confidence: 0.9 },
      { text: "dog", confidence: 0.5 },
      { text: "on", confidence: 0.55 },
      { text: "ice", confidence: 0.2 },
    ];
    expect(confidenceSentence(0.7, words)).toBe(
      "The model is fairly sure of this. It hesitated most at “ice” and “dog”.",
    );
    expect(confidenceSentence(0.7, [...words, ...words])).toContain("at “ice” and “dog”.");
    expect(confidenceSentence(0.1, words)).toBe("The model is guessing.");
    expect(confidenceSentence(0.9, words.slice(0, 1))).toBe("The model is very sure of this.");
  });
});

describe("where attention looks", () => {
  const at = (row: number, column: number): number[][] =>
    [0, 1, 2].map((y) => [0, 1, 2].map((x) => (x === column && y === row ? 1 : 0)));

  it.each([
    [0, 0, "the upper left"],
    [0, 1, "the top"],
    [1, 1, "the middle"],
    [1, 2, "the right side"],
    [2, 1, "the bottom"],
    [2, 2, "the lower right"],
  ])("row %i, column %i is %s", (row, column, words) => {
    expect(whereabouts(at(row, column))).toBe(words);
  });

  it("is the whole photo when it is even or nothing", () => {
    expect(
      whereabouts([
        [0.25, 0.25],
        [0.25, 0.25],
      ]),
    ).toBe("the whole photo");
    expect(whereabouts([[0, 0]])).toBe("the whole photo");
  });
});

describe("a problem in words", () => {
  const refused = (status: number, type?: string, detail?: string): Problem =>
    new Problem("refused", { status, type, title: "A title", detail });

  it.each([400, 401, 403, 404, 405, 408, 413, 415, 418, 422, 429, 500, 502, 503])(
    "status %i has a headline and advice, each a sentence",
    (status) => {
      const { headline, advice } = explain(refused(status, undefined, "Some detail."));
      expect(headline).toMatch(/\.$/);
      expect(advice).toMatch(/\.$/);
    },
  );

  it("tells the type apart where the status alone would not", () => {
    expect(explain(refused(422, "urn:captionloop:problem:image-too-large")).headline).toContain("pixels");
    expect(explain(refused(422, "urn:captionloop:problem:image-unreadable")).headline).toContain("picture");
    expect(explain(refused(503, "urn:captionloop:problem:model-not-ready")).headline).toContain("waking up");
  });

  it("offers another try only where it can help", () => {
    expect(explain(refused(429)).retry).toBe(true);
    expect(explain(refused(503)).retry).toBe(true);
    expect(explain(new Problem("offline")).retry).toBe(true);
    expect(explain(refused(413)).retry).toBe(false);
    expect(explain(new Problem("photo")).retry).toBe(false);
  });
});

describe("a model card", () => {
  it("is shown without running or loading anything", () => {
    const html = renderCard(
      "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n![](https://example.org/x.png)\n\n[x](javascript:alert(1)) [d](data:text/html,x)",
    );
    const place = document.createElement("div");
    place.innerHTML = html;
    expect(place.querySelectorAll("script, img, iframe, [onerror]")).toHaveLength(0);
    for (const link of place.querySelectorAll("a")) expect(link.getAttribute("href")).toMatch(/^https?:/);
  });

  it("aligns columns without a style, which the service's policy refuses", () => {
    const html = renderCard("| a | b |\n|---|---:|\n| 1 | 2 |");
    expect(html).not.toContain("style");
    expect(html).toContain('<td class="right">2</td>');
  });

  it("keeps its headings below the page's own, and its tables", () => {
    const html = renderCard("# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |");
    expect(html).toContain("<h3>Title</h3>");
    expect(html).toContain("<table>");
  });
});

describe("numbers", () => {
  it("are written for people", () => {
    expect(shortDay("2026-11-22")).toBe("Nov 22");
    expect(shortDay("nonsense")).toBe("nonsense");
    expect(t.ratings(1, counted(1))).toBe("1 rating");
    expect(t.ratings(1280, counted(1280))).toBe("1,280 ratings");
    expect(meanStars(null)).toBe("none yet");
  });
});

describe("a model's numbers", () => {
  const metrics = {
    length: { value: 10.055, low: 9.7, high: 10.4 },
    "BLEU-4": 0.2,
    unseen: 0.934,
    CIDEr: { value: 0.5, low: 0.4, high: 0.6 },
    photos: 200,
  };

  it("tells how good it is apart from what its captions are like", () => {
    expect(quality(metrics).map(([name]) => name)).toEqual(["CIDEr", "BLEU-4"]);
    expect(traits(metrics)).toEqual({
      "Measured on photos": "200",
      "Words a caption": "10.1",
      "Captions not in the training data": "93 %",
    });
  });
});

describe("what stands between the words of a caption", () => {
  const said = (texts: string[], caption: string): string =>
    gapsAfter(
      texts.map((text) => ({ text })),
      caption,
    )
      .map((gap, index) => `${texts[index] ?? ""}${gap}`)
      .join("");

  it("is what stands there in the caption, in every language", () => {
    for (const [texts, caption] of [
      [["a", "dog", "'s", "ball"], "a dog's ball"],
      [["l'", "objet", "dans", "l'", "herbe"], "l'objet dans l'herbe"],
      [["一", "只", "狗"], "一只狗"],
      [["كلب", "أحمر"], "كلب أحمر"],
    ] as const) {
      expect(said([...texts], caption)).toBe(caption);
    }
  });

  it("is a space where a word is not in the caption", () => {
    expect(gapsAfter([{ text: "x" }, { text: "dog" }], "a dog")).toEqual([" ", ""]);
  });
});
