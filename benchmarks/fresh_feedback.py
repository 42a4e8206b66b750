"""How often the gate refuses a candidate for fresh feedback, by the photos that were held out.

    python -m benchmarks.fresh_feedback                                  # simulated versions: a few minutes
    python -m benchmarks.loop                                            # makes real versions to compare
    python -m benchmarks.fresh_feedback --play data/loop --versions 5 6

Two versions caption shifted scenes. As often as wanted, some are drawn, with a single reference each,
as people give it: now and then that of another photo. The second version is refused where the whole interval
of the CIDEr difference lies below zero: by the gate's permutation test (`scoring.bootstrap`),
and, beside it, by the percentiles of a bootstrap, as it was before.

*As they are*: so much better or worse as the table says. *Equal*: each photo's two captions exchanged by
chance. Then neither is better, and every refusal is an error. *Equal in the mean*: the differences less their
mean over all trials; the two are better on other photos each, which a permutation test does not presume.

Simulated versions say of a photo something that a person said of it, or of the photo most like it; how often
the first is their quality.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import most_alike
from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.scoring.bootstrap import mean_interval, sign_flip_interval
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import word_tokens

Sentence = list[str]
Floats = NDArray[np.float64]
EXCHANGES = 10
"""Of the captions of the same photos, where versions are made equal."""
PAIRS = (("as they are", 0.6, 0.7), ("as they are", 0.6, 0.4), ("equal", 0.6, 0.6))
"""Of simulated versions: kind, quality of the first and of the second."""


@dataclass(frozen=True)
class Pair:
    """Two versions on some photos: the references of each photo, and what the two say of one of them."""

    kind: str
    references: list[list[Sentence]]
    captions: Callable[[int, random.Random], tuple[Sentence, Sentence]]


def real_pairs(play: Path, base: Path, versions: tuple[int, int]) -> list[Pair]:
    """Two registered versions of a play, as they are and made equal."""
    from benchmarks.loop.world import scenes_world
    from captionloop.captioner.captioner import Captioner
    from captionloop.registry.model_registry import ModelRegistry

    scenes = [one for split in ("val", "test") for one in scenes_world(base, split).shifted_test]
    references = [[word_tokens(text) for text in one.captions] for one in scenes]
    registry = ModelRegistry(f"sqlite:///{play.absolute()}/mlflow.db")
    captions_of_pair = []
    for version in versions:
        captioner = Captioner.load(registry.fetch(version, play / f"models/{version}"))
        found = captioner.caption([one.photo for one in scenes])
        captions_of_pair.append([word_tokens(one.best.text) for one in found])
    both = list(zip(*captions_of_pair, strict=True))
    kinds = ("as they are", "equal", "equal in the mean")
    return [Pair(kind, references, lambda place, _: both[place]) for kind in kinds]


def simulated_pairs(scenes: int) -> list[Pair]:
    """Versions of known quality on scenes that nobody has to draw for this."""
    domain, captions = DOMAINS["shifted"], {}
    for number in range(scenes):
        rng = random.Random(f"fresh/{number}")
        captions[str(number)] = list(describe(domain, compose(domain, rng), rng, 5))
    alike = most_alike(captions)
    words = [[word_tokens(text) for text in texts_of_photo] for texts_of_photo in captions.values()]
    other = [int(alike[image_id]) for image_id in captions]

    def pair(kind: str, first: float, second: float) -> Pair:
        def texts_of_photo(place: int, rng: random.Random) -> tuple[Sentence, Sentence]:
            one, two = (
                words[place if rng.random() < quality else other[place]][which]
                for which, quality in enumerate((first, second))
            )
            return one, two

        return Pair(kind, [texts[2:] for texts in words], texts_of_photo)

    return [*(pair(*each) for each in PAIRS), pair("equal in the mean", 0.75, 0.45)]


def differences(pair: Pair, photos: int, wrong: float, rng: random.Random) -> Floats:
    """CIDEr of the second less that of the first, for some photos with one reference each."""
    chosen = rng.sample(range(len(pair.references)), photos)
    references_by_photo = {
        str(place): [
            rng.choice(rng.choice(pair.references) if rng.random() < wrong else pair.references[place])
        ]
        for place in chosen
    }
    cider = CiderD(references_by_photo)
    pairs = [pair.captions(place, rng) for place in chosen]
    first, second = (
        np.asarray(cider.rewards(list(references_by_photo), list(each)), float)
        for each in zip(*pairs, strict=True)
    )
    return second - first


@dataclass(frozen=True)
class Row:
    """Of all trials: the mean difference, its spread, and the shares that were refused."""

    mean: float
    spread: float
    refused: float
    refused_by_percentiles: float


def refusals(pair: Pair, photos: int, trials: int, wrong: float, resamples: int, seed: int = 0) -> Row:
    """Plays all trials, and asks the gate's rule and the former one each time."""
    rng, chance = random.Random(f"fresh/{photos}/{seed}"), np.random.default_rng(photos + seed)
    each_drawn = EXCHANGES if pair.kind == "equal" else 1
    draws = [differences(pair, photos, wrong, rng) for _ in range(-(-trials // each_drawn))]
    found = np.repeat(draws, each_drawn, axis=0)[:trials]
    if pair.kind == "equal":
        found *= chance.choice([-1, 1], found.shape)
    elif pair.kind == "equal in the mean":
        found -= found.mean()
    flips = percentiles = 0
    for each in found:
        own = int(chance.integers(2**31))
        flips += sign_flip_interval(each, seed=own, resamples=resamples).high < 0
        percentiles += mean_interval(each, seed=own, resamples=resamples).high < 0
    means = found.mean(1)
    return Row(float(means.mean()), float(means.std()), flips / trials, percentiles / trials)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--play", type=Path, help="its versions, instead of simulated ones")
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--versions", type=int, nargs=2, default=(5, 6))
    arguments.add_argument("--photos", type=int, nargs="+", default=(30, 100, 300))
    arguments.add_argument("--wrong", type=float, default=0.15, help="share of references of other photos")
    arguments.add_argument("--trials", type=int, default=2000)
    arguments.add_argument("--resamples", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--kinds", nargs="+", default=None, help="only these: equal, ...")
    given = arguments.parse_args()
    pairs = real_pairs(given.play, given.base, given.versions) if given.play else simulated_pairs(1500)
    pairs = [pair for pair in pairs if given.kinds is None or pair.kind in given.kinds]
    print(
        "| photos | the second version is | difference, CIDEr x100 | its spread | refused "
        "| by percentiles, as before |\n|---:|---|---:|---:|---:|---:|"
    )
    for photos in given.photos:
        for pair in pairs:
            row = refusals(pair, photos, given.trials, given.wrong, given.resamples, given.seed)
            print(
                f"| {photos} | {pair.kind} | {100 * row.mean:+.1f} | {100 * row.spread:.1f} "
                f"| {100 * row.refused:.1f} % | {100 * row.refused_by_percentiles:.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
