// @vitest-environment node
import { describe, expect, it, vi } from "vitest";
import { parse } from "vue/compiler-sfc";

const SOURCES = import.meta.glob<string>("../src/**/*.vue", {
  query: "?raw",
  import: "default",
  eager: true,
});
const READ_ALOUD = new Set([
  "alt",
  "aria-label",
  "aria-description",
  "heading",
  "label",
  "placeholder",
  "title",
]);
const SAME_IN_ALL = new Set(["captionloop", "★"]);

interface Node {
  type: number;
  content?: string | { content: string };
  props?: { type: number; name: string; value?: { content: string }; exp?: { content: string } }[];
  children?: Node[];
}

vi.stubGlobal("navigator", { languages: ["en"] });
const { LANGUAGES, chosenLanguage } = await import("@/wording/language");

/** Names of all texts, with what kind of value each is. */
function names(texts: unknown, before = ""): string[] {
  if (typeof texts !== "object" || texts === null) return [`${before}: ${typeof texts}`];
  return Object.entries(texts).flatMap(([name, value]) => names(value, `${before}/${name}`));
}

/** String literals in an expression that a person could read: with letters, and not just a name. */
const readable = (expression: string): string[] =>
  [...expression.matchAll(/"([^"]*)"|'([^']*)'|`([^`]*)`/g)]
    .map(
      ([, double, single, template]) => double ?? single ?? (template ?? "").replaceAll(/\$\{[^}]*\}/g, ""),
    )
    .filter((text) => !/^\(|^[A-Z]\w+$/.test(text))
    .filter((text) => /^[A-ZÄÖÜ“„][a-zäöü]|[a-zäöü]+[,;:.…]? [a-zäöü]/u.test(text));

function visible(node: Node): string[] {
  const found: string[] = [];
  if (node.type === 2 && typeof node.content === "string" && /\p{L}/u.test(node.content))
    found.push(node.content.trim());
  if (node.type === 5 && typeof node.content === "object") found.push(...readable(node.content.content));
  for (const prop of node.props ?? []) {
    if (prop.type === 6 && READ_ALOUD.has(prop.name) && /\p{L}/u.test(prop.value?.content ?? ""))
      found.push(prop.value?.content ?? "");
    if (prop.type === 7 && prop.name !== "on") found.push(...readable(prop.exp?.content ?? ""));
  }
  return [...found, ...(node.children ?? []).flatMap(visible)].filter((text) => !SAME_IN_ALL.has(text));
}

describe("the texts of the page", () => {
  it("are the same in every language, by name and by what is put into them", () => {
    for (const { texts } of Object.values(LANGUAGES)) expect(names(texts)).toEqual(names(LANGUAGES.en.texts));
  });

  it("are translated: hardly one is the same in two languages", () => {
    const all = JSON.stringify(LANGUAGES.en.texts);
    const sentences = Object.values(LANGUAGES.de.texts).filter(
      (text): text is string => typeof text === "string" && text.includes(" "),
    );
    expect(sentences.filter((text) => all.includes(text) && text !== "× 100")).toEqual([]);
  });

  it.each(Object.entries(SOURCES))("do not stand in %s", (_path, source) => {
    const { descriptor } = parse(source);
    const template = descriptor.template?.ast as Node | undefined;
    expect(template ? visible(template) : []).toEqual([]);
    const script = (descriptor.scriptSetup?.content ?? "")
      .replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "")
      .replaceAll(/^import .*$/gm, "")
      .replaceAll(/querySelector.*$/gm, "");
    expect(readable(script)).toEqual([]);
  });

  it("are found by this test where they do stand", () => {
    const page = `<template><p title="Some words">Text {{ on ? "Let go." : "" }}<b :title="'Two words'" /></p></template>`;
    const ast = parse(page).descriptor.template?.ast as unknown as Node;
    expect(visible(ast)).toEqual(["Some words", "Text", "Let go.", "Two words"]);
  });

  it("are in the first language that the browser asks for and the page has", () => {
    expect(chosenLanguage(["de-AT", "en"])).toBe("de");
    expect(chosenLanguage(["fr", "en-GB", "de"])).toBe("en");
    expect(chosenLanguage(["fr"])).toBe("en");
    expect(chosenLanguage(["constructor"])).toBe("en");
  });

  it("are told to the browser with their language and direction", async () => {
    vi.resetModules();
    vi.stubGlobal("navigator", { languages: ["de-CH"] });
    const attributes = new Map([["lang", "en"]]);
    vi.stubGlobal("document", {
      querySelector: () => ({ setAttribute: (name: string, text: string) => attributes.set(name, text) }),
    });
    const german = await import("@/wording/language");
    const root = { lang: "en", dir: "" };
    german.applyLanguage(root as unknown as HTMLElement);
    expect(root).toEqual({ lang: "de", dir: "ltr" });
    expect(attributes.get("content")).toContain("Zeig ein Foto");
    const { meanStars } = await import("@/wording/numbers");
    expect(meanStars(3.25)).toBe("3,3");
    vi.unstubAllGlobals();
  });
});
