"""Whether confidence means what it says: the share of accepted captions against it, and what is unfamiliar.

    python -m benchmarks.reliability          # scenes: the registered bundle on `test`
    python -m benchmarks.reliability --others <folder of photos>  # and photos of another world
    python -m benchmarks.reliability --corpus flickr8k --split val --figure flickr8k.png

The bundle (`data/06_models/<corpus>/candidate`, if no other is named) captions the photos as it does in the
service. A caption is accepted by references (`evaluation/calibration.py`, how the confidence was fitted) and,
of the generated scenes, by the facts: it names nothing that is not there. Nothing is chosen here, and nothing
fitted; but where the split is the one that confidences are calibrated on, the curves are fitted anew, for
each half of its photos on the other, so that no caption is judged by a curve that knows it.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.loop.project import configured
from captionloop.captioner.captioner import Captioned, Captioner
from captionloop.captioner.model_config import mean_confidence
from captionloop.corpus.scenes import SAMPLE, Facts, Group
from captionloop.corpus.scenes.scene_captions import untrue
from captionloop.errors import ImageError
from captionloop.evaluation.calibration import acceptable, as_calibration, bins, calibrate, expected_error
from captionloop.evaluation.evaluation_set import (
    CalibrationParameters,
    EvaluationParameters,
    EvaluationSet,
    evaluation_set,
)
from captionloop.evaluation.predictions import PredictedCaption, PredictedWord

Floats = NDArray[np.float64]
BATCH = 32


def captioned(captioner: Captioner, photos: Iterable[bytes]) -> Iterator[Captioned]:
    """What the captioner says of each photo; those that are none are left out."""
    batch: list[NDArray[np.uint8]] = []
    for photo in photos:
        try:
            batch.append(captioner.prepare(photo))
        except ImageError:
            continue
        if len(batch) == BATCH:
            yield from captioner.caption_arrays(np.stack(batch))
            batch = []
    if batch:
        yield from captioner.caption_arrays(np.stack(batch))


def calibrated(found: Sequence[Captioned]) -> tuple[Floats, Floats]:
    """The confidences of captions as they are, and the means of their words'."""
    words = [[word.confidence for word in one.best.words] for one in found]
    return np.array([one.best.confidence for one in found]), np.array([mean_confidence(of) for of in words])


def crossed(
    found: Sequence[Captioned], photos: EvaluationSet, rules: CalibrationParameters
) -> tuple[Floats, Floats]:
    """The same of captions that are not calibrated, by curves fitted to the other half of the photos."""
    predictions = [
        PredictedCaption(
            caption=one.best.text,
            log_probability=one.best.log_probability,
            words=tuple(PredictedWord(text=word.text, confidence=word.confidence) for word in one.best.words),
        )
        for one in found
    ]
    confidence, means = np.zeros(len(predictions)), np.zeros(len(predictions))
    for half in (0, 1):
        other = dict(list(zip(photos.image_ids, predictions, strict=True))[1 - half :: 2])
        known = as_calibration(
            calibrate("", photos.split, other, photos.references, rules, photos.reference_language)
        )
        for place in range(half, len(predictions), 2):
            words = [known(word.confidence) for word in predictions[place].words]
            confidence[place], means[place] = known.of_caption(words), mean_confidence(words)
    return confidence, means


def facts_of(known: dict[str, Any]) -> Facts:
    """A scene's facts as `facts.json` has them."""
    groups = tuple(Group(**group) for group in known["groups"])
    return Facts(known["place"], known["light"], known["arrangement"], groups, tuple(known["extras"]))


def row(name: str, confidence: Floats, right: Floats, count: int) -> str:
    """A line of the table: how many, how sure, how often right, and how far the two are apart."""
    error = expected_error(bins(confidence, right, count))
    parted = auc(confidence, right)
    return (
        f"| {name} | {len(right)} | {100 * confidence.mean():.0f} % | {100 * right.mean():.0f} % |"
        f" {100 * error:.1f} | {'' if parted is None else f'{parted:.2f}'} |"
    )


def auc(confidence: Floats, right: Floats) -> float | None:
    """Chance that of an accepted caption and one that is not the former is the more confident one."""
    accepted, other = confidence[right > 0], confidence[right == 0]
    if not len(accepted) or not len(other):
        return None
    more = (accepted[:, None] > other).mean() + (accepted[:, None] == other).mean() / 2
    return float(more)


def draw(path: Path, title: str, confidence: Floats, series: dict[str, Floats], count: int) -> None:
    """The curves; a dot is as large as there are captions in it."""
    from captionloop.evaluation.figures import INK, MUTED, colour, figure, style_axes

    drawn = figure(5.2, 4.6)
    panel = drawn.subplots()
    panel.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    for place, (name, right) in enumerate(series.items()):
        found = bins(confidence, right, count)
        x, y = [one.confidence for one in found], [one.right for one in found]
        sizes = np.array([one.count for one in found])
        panel.plot(x, y, color=colour(place), linewidth=1.6, label=name, zorder=3)
        panel.scatter(x, y, s=12 + 160 * sizes / sizes.sum(), color=colour(place), zorder=4, linewidth=0)
    style_axes(panel, title=title, x="confidence of a caption", y="share of such captions that are accepted")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_aspect("equal")
    panel.legend(frameon=False, fontsize=9, loc="upper left", labelcolor=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=150)


def unlike(found: Sequence[Captioned]) -> str:
    """How many are of unfamiliar photos."""
    flagged = [not one.familiarity.familiar for one in found if one.familiarity is not None]
    if not flagged:
        return "this bundle does not know what it learnt from"
    return (
        f"{sum(flagged)} of {len(flagged)} photos ({100 * np.mean(flagged):.1f} %) are unlike anything learnt"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--corpus", default="sample_scenes")
    arguments.add_argument("--split", default="test")
    arguments.add_argument("--data", type=Path, default=Path("data"))
    arguments.add_argument("--photos", type=Path, help="the corpus's photos [default: those in --data]")
    arguments.add_argument("--model", type=Path, help="a bundle [default: the corpus's candidate]")
    arguments.add_argument("--others", type=Path, nargs="*", default=[], help="folders of other photos")
    arguments.add_argument("--most", type=int, default=1000, help="photos of each of --others")
    arguments.add_argument("--bins", type=int, default=5)
    arguments.add_argument("--figure", type=Path)
    given = arguments.parse_args()

    env = None if given.corpus == "sample_scenes" else given.corpus
    rules = EvaluationParameters.model_validate(configured("evaluation", env)).calibration
    tables = given.data / "02_intermediate" / given.corpus
    images, captions = (pd.read_parquet(tables / f"{name}.parquet") for name in ("images", "captions"))
    raw = given.data / "01_raw" / given.corpus
    captioner = Captioner.load(given.model or given.data / "06_models" / given.corpus / "candidate")
    chosen = evaluation_set(images, captions, given.split, captioner.tokenizer.language)
    folder = given.photos or raw / "photos"
    fitted_here = chosen.split == rules.split
    if fitted_here:
        captioner.calibration = None
    found = list(captioned(captioner, ((folder / uri).read_bytes() for uri in chosen.uris)))
    predicted = dict(zip(chosen.image_ids, (one.best.text for one in found), strict=True))
    confidence, words = crossed(found, chosen, rules) if fitted_here else calibrated(found)
    series: dict[str, Floats] = {}
    by_people = acceptable(predicted, chosen.references, rules.acceptable, chosen.reference_language)
    if by_people is not None:
        series["agrees with what people said"] = by_people
    if (raw / "facts.json").exists():
        known = json.loads((raw / "facts.json").read_text(encoding="utf-8"))
        wrong = [untrue(SAMPLE, facts_of(known[name]), caption) for name, caption in predicted.items()]
        series["names nothing that is not there"] = np.array([float(not one) for one in wrong])
        print(f"{sum(map(len, wrong))} named things of {len(predicted)} captions are not there\n")
    print("| accepted | captions | confidence | accepted | error | AUC |\n|---|---:|---:|---:|---:|---:|")
    for name, right in series.items():
        print(row(name, confidence, right, given.bins))
        print(row(f"{name}; confidence as the mean of words", words, right, given.bins))
    print(f"\n{given.corpus}, {given.split}: {unlike(found)}")
    if given.figure is not None:
        title = f"{captioner.name} on {given.split} of {given.corpus}"
        draw(given.figure, title, confidence, series, given.bins)
    for other in given.others:
        files = sorted(path for path in other.iterdir() if path.is_file())[: given.most]
        print(f"{other.name}: {unlike(list(captioned(captioner, (path.read_bytes() for path in files))))}")


if __name__ == "__main__":
    main()
