/** A small JPEG of a photo as a data URL, for the captions that this browser remembers. */
import { openImage } from "./image";
import { redraw } from "./prepare";

const SIDE = 360;
const QUALITY = 0.72;

export async function thumbnail(photoUrl: string): Promise<string | null> {
  const image = await openImage(photoUrl);
  if (!image) return null;
  const blob = await redraw(image, SIDE, QUALITY);
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = (): void => resolve(typeof reader.result === "string" ? reader.result : null);
    reader.onerror = (): void => resolve(null);
    reader.readAsDataURL(blob);
  });
}
