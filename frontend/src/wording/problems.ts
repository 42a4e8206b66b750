/** A problem as two helpful sentences: what happened, and what to do. */
import type { Problem, ProblemKind, Refusal } from "@/api/problem";

import { t } from "./language";
import type { ProblemName } from "./names";

export interface Explanation {
  headline: string;
  advice: string;
  /** Whether the same photo may go through when it is sent again. */
  retry: boolean;
}

/** By the last part of the problem's `type`; the API's page lists them. */
const BY_TYPE: Readonly<Record<string, ProblemName>> = {
  "image-unreadable": "unreadable",
  "image-too-large": "pixels",
  "scope-missing": "scope",
  "model-not-ready": "waking",
};

const BY_STATUS: Readonly<Record<number, ProblemName>> = {
  401: "key",
  404: "gone",
  408: "timeout",
  413: "large",
  429: "often",
  503: "busy",
};

/** What another try does not change. */
const FINAL = new Set<ProblemName>(["photo", "unreadable", "pixels", "scope", "gone", "large", "refused"]);

function named(name: ProblemName): Explanation {
  const [headline, advice] = t.problems[name];
  return { headline, advice, retry: !FINAL.has(name) };
}

function explainRefusal(refusal: Refusal): Explanation {
  const known = BY_TYPE[refusal.type?.split(":").pop() ?? ""] ?? BY_STATUS[refusal.status];
  if (known) return named(known);
  if (refusal.status >= 500) return named("broken");
  const { headline, advice, retry } = named("refused");
  return {
    headline: refusal.title ? `${refusal.title}.` : headline,
    advice: refusal.detail ?? advice,
    retry,
  };
}

export function explain(problem: Problem): Explanation {
  const kind: Exclude<ProblemKind, "refused"> = problem.kind === "refused" ? "garbled" : problem.kind;
  return problem.kind === "refused" && problem.refusal ? explainRefusal(problem.refusal) : named(kind);
}
