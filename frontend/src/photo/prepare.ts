/**
 * A photo on its way to the service. It is sent as it is; only one beyond the service's limits, or of a kind that
 * the service does not read but this browser does (HEIC on an iPhone), is redrawn smaller.
 */
import { Problem } from "@/api/problem";

import { openImage } from "./image";

/** The service's defaults (docs/api.md), with room for what multipart adds to the bytes. */
export const LIMITS = { bytes: 9_900_000, pixels: 50_000_000 } as const;
const ACCEPTED = new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"]);
const REDRAWN_SIDE = 2048;

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

export function mustBeRedrawn(file: Pick<Blob, "size" | "type">, size: Size | null): boolean {
  const pixels = size ? size.width * size.height : 0;
  const foreign = size !== null && file.type !== "" && !ACCEPTED.has(file.type);
  return file.size > LIMITS.bytes || pixels > LIMITS.pixels || foreign;
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
 * Makes a chosen file ready to be sent and shown. A file that this browser cannot open is sent untouched: the
 * service reads more kinds, and its answer says best what is wrong.
 *
 * @throws Problem("photo") when it is too large to send and cannot be redrawn
 */
export async function preparePhoto(file: File): Promise<Photo> {
  const url = URL.createObjectURL(file);
  const image = await openImage(url);
  const size = image && { width: image.naturalWidth, height: image.naturalHeight };
  if (!mustBeRedrawn(file, size)) return { blob: file, name: file.name || "photo", url };
  try {
    if (!image) throw new Problem("photo", null, "too large to send, and this browser cannot open it");
    const blob = await redraw(image, REDRAWN_SIDE, 0.9);
    return { blob, name: `${file.name.replace(/\.\w+$/, "")}.jpg`, url: URL.createObjectURL(blob) };
  } finally {
    URL.revokeObjectURL(url);
  }
}
