/** Everything that can go wrong between this page and the service, as one error. */

export type ProblemKind =
  | "offline"
  | "unreachable"
  | "timeout"
  | "cancelled"
  /** The service answered something this page does not understand. */
  | "garbled"
  /** The photo could not be opened or made smaller in the browser. */
  | "photo"
  /** The service refused, with an HTTP status and usually an RFC 9457 problem document. */
  | "refused";

export interface Refusal {
  status: number;
  /** Which problem it is, a URI of the service's own (docs/api.md lists them). */
  type?: string | undefined;
  title?: string | undefined;
  detail?: string | undefined;
  requestId?: string | undefined;
  /** Seconds until another try makes sense. */
  retryAfter?: number | undefined;
}

export class Problem extends Error {
  constructor(
    readonly kind: ProblemKind,
    readonly refusal: Refusal | null = null,
    detail?: string,
  ) {
    super(detail ?? refusal?.detail ?? refusal?.title ?? kind);
    this.name = "Problem";
  }
}

/** Seconds from a Retry-After header, which holds either seconds or an HTTP date (RFC 9110, 10.2.3). */
export function retryAfterSeconds(header: string | null, now: number = Date.now()): number | undefined {
  if (header === null || header.trim() === "") return undefined;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, Math.ceil(seconds));
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - now) / 1000));
}
