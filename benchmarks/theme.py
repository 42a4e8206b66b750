"""Learning a theme of real photos from ratings: a captioner that never saw snow (or water) is sent it.

    make flickr8k DATA=... WEIGHTS=...                 # once: tables, encoder and features of Flickr8k
    python -m benchmarks.theme prepare --theme snow    # a workspace without the theme's photos
    kedro run --env flickr8k --pipelines training --to-outputs show_attend_tell.captioner --params \\
        workspace=data/theme/snow,tracking_uri=sqlite:///data/theme/snow/mlflow.db
    python -m benchmarks.theme play --theme snow --data <folder of Flickr8k>

A photo belongs to the theme where at least two of its captions hold one of its words. `prepare` takes these
photos out of `train` and `val`; `play` sends those of `train` to the champion, lets simulated people rate and
correct what it says (30 % corrections, 15 % noise), retrains, and measures CIDEr on the theme's photos of
`val` and on all others. The encoder has been taught with all photos: only the decoder learns the theme anew.
"""

import argparse
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from benchmarks.loop.figure import figure
from benchmarks.loop.play import Play, play, simulated_raters
from benchmarks.loop.world import Picture, World
from captionloop.evaluation.evaluation_set import evaluation_set
from captionloop.photos import PhotoFolder
from captionloop.tokenizer import word_tokens

THEMES = {
    "snow": {"snow", "snowy", "ski", "skis", "skier", "skiing", "snowboard", "snowboarder", "sled", "ice"},
    "water": {
        "water",
        "pool",
        "ocean",
        "sea",
        "lake",
        "river",
        "wave",
        "waves",
        "surf",
        "surfer",
        "swimming",
    },
}
CORPUS = "flickr8k"


def of_theme(captions: pd.DataFrame, theme: str) -> set[str]:
    """The photos of a theme, by image id."""
    speaks = captions["text"].map(lambda text: not THEMES[theme].isdisjoint(word_tokens(text)))
    counts = speaks.groupby(captions["image_id"]).sum()
    return {str(image_id) for image_id in counts.index[counts >= 2]}


def prepare(base: Path, folder: Path, theme: str) -> None:
    """A workspace whose tables lack the theme; encoder and features are those of `base`."""
    tables = base / "02_intermediate" / CORPUS
    images, captions = (pd.read_parquet(tables / f"{name}.parquet") for name in ("images", "captions"))
    themed = of_theme(captions, theme)
    rest = images[~images["image_id"].isin(themed)]
    captions_of_rest = captions[captions["image_id"].isin(rest["image_id"])]
    place = folder / "02_intermediate" / CORPUS
    place.mkdir(parents=True, exist_ok=True)
    rest.to_parquet(place / "images.parquet")
    captions_of_rest.to_parquet(place / "captions.parquet")
    for part in (f"03_primary/{CORPUS}", f"06_models/{CORPUS}/encoder", f"04_feature/{CORPUS}"):
        shutil.copytree(base / part, folder / part, dirs_exist_ok=True)
    store = folder / "04_feature/store"
    if not store.exists():
        store.symlink_to(os.path.relpath(base.absolute() / "04_feature/store", store.parent))
    frozen = folder / "05_model_input" / CORPUS
    frozen.mkdir(parents=True, exist_ok=True)
    chosen = evaluation_set(rest, captions_of_rest, "val").model_dump_json()
    for name in ("evaluation_photos", "calibration_photos"):
        (frozen / f"{name}.json").write_text(chosen)
    print(f"{len(themed)} of {len(images)} photos speak of {theme}; {folder} has the other {len(rest)}.")


def theme_world(base: Path, photos: PhotoFolder, theme: str) -> World:
    """What is sent, what is known, and the two halves of `val`."""
    tables = base / "02_intermediate" / CORPUS
    images, captions = (pd.read_parquet(tables / f"{name}.parquet") for name in ("images", "captions"))
    themed = of_theme(captions, theme)
    texts = {str(key): list(group) for key, group in captions.groupby("image_id")["text"]}

    def pictures(split: str, inside: bool, most: int | None = None) -> list[Picture]:
        rows = images[(images["split"] == split) & (images["image_id"].isin(themed) == inside)]
        return [
            Picture(image_id, photos.read(uri), tuple(texts[image_id]))
            for image_id, uri in zip(rows["image_id"].head(most), rows["uri"].head(most), strict=True)
        ]

    return World(
        pictures("train", True),
        pictures("val", False, 200),
        pictures("val", True),
        pictures("val", False),
        texts,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("step", choices=["prepare", "play"])
    arguments.add_argument("--theme", choices=sorted(THEMES), default="snow")
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--data", type=Path, default=Path("data/01_raw/flickr8k"))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--ratings", type=int, default=400, help="a round")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    folder = Path("data/theme") / given.theme
    if given.step == "prepare":
        prepare(given.base, folder, given.theme)
        return
    game = Play(folder / "play", CORPUS, folder, {"data": str(given.data)})
    game.crown(folder / f"06_models/{CORPUS}/show_attend_tell")
    world = theme_world(given.base, PhotoFolder(str(given.data / "images")), given.theme)
    people = simulated_raters(given.ratings, seed=given.seed)
    done = play(game, world, people, rounds=given.rounds, ratings=given.ratings, corpus=CORPUS)
    game.store.close()
    (folder / "rounds.json").write_text(json.dumps([asdict(one) for one in done], indent=2))
    figure(done, None, folder / "learning-curve.png")


if __name__ == "__main__":
    main()
