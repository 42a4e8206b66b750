/** Loads an image; null where this browser cannot open it. */
export function openImage(url: string): Promise<HTMLImageElement | null> {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = (): void => resolve(image);
    image.onerror = (): void => resolve(null);
    image.src = url;
  });
}
