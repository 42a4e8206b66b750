/** A problem as two helpful sentences: what happened, and what to do. */
import type { Problem, Refusal } from "@/api/problem";

export interface Explanation {
  headline: string;
  advice: string;
  /** Whether the same photo may go through when it is sent again. */
  retry: boolean;
}

const BY_KIND: Readonly<Record<Exclude<Problem["kind"], "refused">, Explanation>> = {
  offline: {
    headline: "You are offline.",
    advice: "Your photo is still here. Send it again once you are connected.",
    retry: true,
  },
  unreachable: {
    headline: "The service could not be reached.",
    advice:
      "It may be restarting, or the network is in the way. Your photo is still here: try again in a moment.",
    retry: true,
  },
  timeout: {
    headline: "This took too long.",
    advice: "The connection may be slow. Your photo is still here: try again, or choose a smaller one.",
    retry: true,
  },
  cancelled: { headline: "Cancelled.", advice: "Nothing was kept.", retry: true },
  garbled: {
    headline: "The service answered in a way this page does not understand.",
    advice: "Reload the page: it may be older than the service.",
    retry: true,
  },
  photo: {
    headline: "This photo could not be opened.",
    advice: "Choose a JPEG, PNG or WebP picture.",
    retry: false,
  },
};

/** By the last part of the problem's `type`; the API's page lists them. */
const BY_TYPE: Readonly<Record<string, Explanation>> = {
  "image-unreadable": {
    headline: "This file is not a picture the service can read.",
    advice: "Choose a JPEG, PNG, WebP or GIF picture. If it is one, it may be damaged.",
    retry: false,
  },
  "image-too-large": {
    headline: "This photo has too many pixels.",
    advice: "Choose a smaller one, or a screenshot of it.",
    retry: false,
  },
  "scope-missing": {
    headline: "Your API key does not allow this.",
    advice: "Use a key with the right scope, or ask whoever runs the service.",
    retry: false,
  },
  "model-not-ready": {
    headline: "The model is still waking up.",
    advice: "That takes a few seconds after a start. Your photo is still here.",
    retry: true,
  },
};

const BY_STATUS: Readonly<Record<number, Explanation>> = {
  401: {
    headline: "The service asks for a valid API key.",
    advice: "Enter or correct your key in the settings, then try again.",
    retry: true,
  },
  404: {
    headline: "This caption is no longer there.",
    advice: "It was erased, or it was made with another key or in another browser.",
    retry: false,
  },
  408: BY_KIND.timeout,
  413: {
    headline: "This file is too large.",
    advice: "Choose a photo of at most 10 MB.",
    retry: false,
  },
  429: {
    headline: "That was a lot of photos at once.",
    advice: "Take a breath: the service lets you go on in a moment.",
    retry: true,
  },
  503: {
    headline: "The service is busy right now.",
    advice: "Your photo is still here, and trying again costs nothing.",
    retry: true,
  },
};

function explainRefusal(refusal: Refusal): Explanation {
  const name = refusal.type?.split(":").pop() ?? "";
  const known = BY_TYPE[name] ?? BY_STATUS[refusal.status];
  if (known) return known;
  if (refusal.status >= 500) {
    return {
      headline: "Something broke on the service's side.",
      advice: "It was not your photo's fault. Try again in a moment.",
      retry: true,
    };
  }
  return {
    headline: refusal.title ? `${refusal.title}.` : "The service refused this.",
    advice: refusal.detail ?? "Try something else.",
    retry: false,
  };
}

export function explain(problem: Problem): Explanation {
  if (problem.kind !== "refused") return BY_KIND[problem.kind];
  return problem.refusal ? explainRefusal(problem.refusal) : BY_KIND.garbled;
}
