/**
 * A photo on its way to the service. One that is larger than anything the model looks at is redrawn smaller before
 * it is sent, upright, unless it is to go as it is, and so is one of a kind that the service does not read but this browser does (HEIC on an
 * iPhone). Small photos, and files that this browser cannot open, are sent as they are.
 */
import { Problem } from "@/api/problem";

import { openImage } from "./image";

/** The service's default (docs/api.md), with room for what multipart adds to the bytes. */
export const MOST_BYTES = 9_900_000;
/** The longer side of what is sent, in px: several times what any encoder sees, enough to look at later. */
export const LONGEST_SIDE = 2048;
/** The most pixels that the service takes by default. */
export const MOST_PIXELS = 64_000_000;
/** What the service reads. */
export const ACCEPTED: readonly string[] = [
  "image/jpeg",
  "image/png",
  "image/webp",
  "image/gif",
  "image/bmp",
];
/** What is offered in the file chooser: this, and what some browsers can redraw. */
export const OFFERED = [...ACCEPTED, "image/avif", "image/heic", "image/heif"].join(",");

export interface Photo {
  blob: Blob;
  name: string;
  /** Where the page shows it from; revoked when the photo is let go. */
  url: string;
}

interface Size {
  width: number;
  height: number;
}

/** The size that fits a square of `side`, never larger than the original. */
export function fitted({ width, height }: Size, side: number): Size {
  const scale = Math.min(1, side / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** @param smaller whether a photo is to be made smaller than the service's limits ask for */
export function mustBeRedrawn(file: Pick<Blob, "size" | "type">, size: Size | null, smaller = true): boolean {
  const large =
    size !== null &&
    (smaller ? Math.max(size.width, size.height) > LONGEST_SIDE : size.width * size.height > MOST_PIXELS);
  const foreign = size !== null && file.type !== "" && !ACCEPTED.includes(file.type);
  return file.size > MOST_BYTES || large || foreign;
}

/** Draws an image into JPEG bytes of at most `side` px; transparent places become white. */
export async function redraw(image: HTMLImageElement, side: number, quality: number): Promise<Blob> {
  const { width, height } = fitted({ width: image.naturalWidth, height: image.naturalHeight }, side);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) throw new Problem("photo");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => {
        if (blob) resolve(blob);
        else reject(new Problem("photo"));
      },
      "image/jpeg",
      quality,
    );
  });
}

/**
 * Makes a chosen file ready to be sent and shown. Where the browser cannot make it smaller, it is sent untouched:
 * the service reads more kinds, and its answer says best what is wrong.
 *
 * @throws Problem("photo") when it has too many bytes to be sent and cannot be redrawn
 */
export async function preparePhoto(file: File, makeSmaller = true): Promise<Photo> {
  const url = URL.createObjectURL(file);
  const image = await openImage(url);
  const size = image && { width: image.naturalWidth, height: image.naturalHeight };
  const untouched = { blob: file, name: file.name || "photo", url };
  if (!mustBeRedrawn(file, size, makeSmaller)) return untouched;
  const smaller = image && (await redraw(image, LONGEST_SIDE, 0.9).catch(() => null));
  if (smaller) {
    URL.revokeObjectURL(url);
    const name = `${file.name.replace(/\.\w+$/, "") || "photo"}.jpg`;
    return { blob: smaller, name, url: URL.createObjectURL(smaller) };
  }
  if (file.size <= MOST_BYTES) return untouched;
  URL.revokeObjectURL(url);
  throw new Problem("photo", null, "too large to send, and this browser cannot make it smaller");
}
