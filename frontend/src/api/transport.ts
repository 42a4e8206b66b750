/**
 * One HTTP exchange: by XMLHttpRequest, because only it tells how much of an upload has gone, or by fetch, because
 * only that outlives the page.
 */
import { Problem } from "./problem";

export interface Outgoing {
  method: "GET" | "POST" | "PUT" | "DELETE";
  url: string;
  headers: Record<string, string>;
  body?: FormData | string;
  signal?: AbortSignal;
  /** The request is finished even if the page is left meanwhile; for small bodies (at most 64 KiB). */
  outlivesPage?: boolean;
  /** Called with the fraction of the body that has been sent, 0 to 1. */
  onUpload?: (sent: number) => void;
  /** The answer is a file: `blob` of the reply, whose `body` is empty. */
  file?: boolean;
}

export interface Reply {
  status: number;
  body: string;
  blob?: Blob;
  header: (name: string) => string | null;
}

export type Transport = (outgoing: Outgoing) => Promise<Reply>;

const PATIENCE_MS = 120_000;

const sendByXhr: Transport = (outgoing) =>
  new Promise((resolve, reject) => {
    if (outgoing.signal?.aborted) {
      reject(new Problem("cancelled"));
      return;
    }
    const xhr = new XMLHttpRequest();
    const abort = (): void => xhr.abort();
    const settle = (finish: () => void) => (): void => {
      outgoing.signal?.removeEventListener("abort", abort);
      finish();
    };

    xhr.open(outgoing.method, outgoing.url);
    xhr.timeout = PATIENCE_MS;
    if (outgoing.file) xhr.responseType = "blob";
    for (const [name, value] of Object.entries(outgoing.headers)) xhr.setRequestHeader(name, value);
    outgoing.signal?.addEventListener("abort", abort);

    const { onUpload } = outgoing;
    if (onUpload) {
      xhr.upload.onprogress = (event): void => {
        if (event.lengthComputable) onUpload(event.loaded / event.total);
      };
      xhr.upload.onload = (): void => onUpload(1);
    }
    xhr.onload = settle(() =>
      resolve({
        status: xhr.status,
        ...(outgoing.file ? { body: "", blob: xhr.response as Blob } : { body: xhr.responseText }),
        header: (name) => xhr.getResponseHeader(name),
      }),
    );
    xhr.onabort = settle(() => reject(new Problem("cancelled")));
    xhr.ontimeout = settle(() => reject(new Problem("timeout")));
    xhr.onerror = settle(() => reject(new Problem(navigator.onLine ? "unreachable" : "offline")));
    xhr.send(outgoing.body ?? null);
  });

const SAVE_PATIENCE_MS = 30_000;

const sendByFetch: Transport = async (outgoing) => {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), SAVE_PATIENCE_MS);
  const stop = (): void => patience.abort();
  outgoing.signal?.addEventListener("abort", stop);
  try {
    if (outgoing.signal?.aborted) throw new Problem("cancelled");
    const { method, url, headers, body } = outgoing;
    const reply = await fetch(url, {
      method,
      headers,
      body: body ?? null,
      keepalive: true,
      signal: patience.signal,
    });
    return { status: reply.status, body: await reply.text(), header: (name) => reply.headers.get(name) };
  } catch {
    if (outgoing.signal?.aborted) throw new Problem("cancelled");
    if (patience.signal.aborted) throw new Problem("timeout");
    throw new Problem(navigator.onLine ? "unreachable" : "offline");
  } finally {
    clearTimeout(timer);
    outgoing.signal?.removeEventListener("abort", stop);
  }
};

export const sendFromBrowser: Transport = (outgoing) =>
  outgoing.outlivesPage ? sendByFetch(outgoing) : sendByXhr(outgoing);
