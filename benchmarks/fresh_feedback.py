"""How often the gate refuses a candidate for fresh feedback, by the photos that were held out.

    python -m benchmarks.loop                                            # makes the versions to compare
    python -m benchmarks.fresh_feedback --play data/loop --versions 5 6

Two versions of a play caption shifted scenes that neither was taught with. As often as wanted, some of these
are drawn, with a single reference each, as people give it: now and then that of another photo. The second
version is refused as the gate refuses it, where the whole interval of the CIDEr difference lies below zero.
Once as they are, and once with each photo's two captions exchanged by chance: then neither is better, and
every refusal is an error.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.loop.world import scenes_world
from captionloop.captioner.captioner import Captioner
from captionloop.evaluation.predictions import words_of
from captionloop.registry.model_registry import ModelRegistry
from captionloop.scoring.bootstrap import mean_interval
from captionloop.scoring.cider import CiderD

Sentence = list[str]


def captions_of(play: Path, version: int, photos: list[bytes]) -> list[Sentence]:
    """What a registered version of a play says of photos, in words."""
    registry = ModelRegistry(f"sqlite:///{play.absolute()}/mlflow.db")
    captioner = Captioner.load(registry.fetch(version, play / f"models/{version}"))
    return [words_of(one.best.text) for one in captioner.caption(photos)]


def differences(
    said: list[list[Sentence]],
    references: list[list[Sentence]],
    photos: int,
    wrong: float,
    rng: random.Random,
) -> NDArray[np.float64]:
    """CIDEr of the second less that of the first, for some photos with one reference each."""
    chosen = rng.sample(range(len(references)), photos)
    heard = {
        str(place): [rng.choice(rng.choice(references) if rng.random() < wrong else references[place])]
        for place in chosen
    }
    cider = CiderD(heard)
    first, second = (
        np.asarray(cider.rewards(list(heard), [each[place] for place in chosen]), np.float64) for each in said
    )
    return second - first


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--play", type=Path, default=Path("data/loop"))
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--versions", type=int, nargs=2, default=(5, 6))
    arguments.add_argument("--photos", type=int, nargs="+", default=(31, 60, 100))
    arguments.add_argument("--wrong", type=float, default=0.15, help="share of references of other photos")
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--resamples", type=int, default=500)
    given = arguments.parse_args()
    scenes = [one for split in ("val", "test") for one in scenes_world(given.base, split).shifted_test]
    references = [[words_of(text) for text in one.captions] for one in scenes]
    said = [captions_of(given.play, version, [one.photo for one in scenes]) for version in given.versions]
    print("| photos | truly | difference (CIDEr x100) | its spread | refused |\n|---:|---|---:|---:|---:|")
    for photos in given.photos:
        for equal in (False, True):
            rng, chance = random.Random(f"fresh/{photos}"), np.random.default_rng(photos)
            means, refused = [], 0
            for _ in range(given.trials):
                found = differences(said, references, photos, given.wrong, rng)
                found = found * chance.choice([-1, 1], photos) if equal else found
                interval = mean_interval(found, resamples=given.resamples, seed=int(chance.integers(2**31)))
                means.append(interval.value)
                refused += interval.high < 0
            kind = "equal" if equal else "as they are"
            print(
                f"| {photos} | {kind} | {100 * np.mean(means):+.1f} | {100 * np.std(means):.1f} "
                f"| {100 * refused / given.trials:.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
