"""Draws the page's example pictures with the project's own scene generator: no photo of anybody is shipped.

Run from the repository's root: `.venv/bin/python frontend/dev/draw_examples.py`. The pictures are committed,
because the page must build without the Python environment.
"""

import io
import json
from pathlib import Path

from PIL import Image

from captionloop.corpus.scenes import SceneParameters, draw_scenes

FRONTEND = Path(__file__).resolve().parents[1]
PARAMETERS = SceneParameters(side=320, train=1, val=0, test=32, seed=11)
CHOSEN = {14: "kite", 18: "boats", 27: "street", 6: "mushrooms", 28: "night", 22: "lake"}
MOST_BYTES = 15_000


def as_webp(photo: bytes) -> bytes:
    """The drawing as WebP, at the best quality that stays below the size a first visit should cost."""
    image = Image.open(io.BytesIO(photo))
    for quality in range(86, 30, -4):
        out = io.BytesIO()
        image.save(out, "WEBP", quality=quality, method=6)
        if out.tell() < MOST_BYTES:
            return out.getvalue()
    raise ValueError(f"an example does not fit {MOST_BYTES} bytes: draw it smaller than {PARAMETERS.side} px")


def main() -> None:
    """Writes `public/examples/*.webp` and the list that the page reads."""
    folder = FRONTEND / "public" / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [scene for scene in draw_scenes(PARAMETERS) if scene.split == "test"]
    entries = []
    for number, name in CHOSEN.items():
        scene = scenes[number]
        (folder / f"{name}.webp").write_bytes(as_webp(scene.photo))
        entries.append({"file": f"{name}.webp", "shows": scene.captions[0]})
    listing = FRONTEND / "src" / "photo" / "examples.json"
    listing.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
