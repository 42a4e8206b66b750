/** What texts are chosen by. */
import type { ProblemKind } from "@/api/problem";

export type ProblemName =
  | ProblemKind
  | "unreadable"
  | "pixels"
  | "scope"
  | "waking"
  | "key"
  | "gone"
  | "large"
  | "often"
  | "busy"
  | "broken";
export type Band = "sure" | "fairly" | "unsure" | "guess";
export type Place =
  | "all"
  | "middle"
  | "top"
  | "bottom"
  | "left"
  | "right"
  | "upper left"
  | "upper right"
  | "lower left"
  | "lower right";
