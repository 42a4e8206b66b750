"""What should become of a rating: three uses of low ratings, and of approval, compared on the shifted scenes.

    python -m benchmarks.learning_signal                 # the signals, several seeds
    python -m benchmarks.learning_signal --sweep         # learning rate, epochs, replay, weights

The champion of the sample scenes captions shifted scenes, simulated people rate them and correct 30 %, and
the champion is taught on with what the pipeline's own curation makes of it. Quality is CIDEr (greedy) on the
*validation* scenes of both worlds: choices are made here, results are reported on the test scenes by
`benchmarks.loop`.

- `ignore`: low ratings only keep a caption out of training.
- `unlikelihood`: words of a rejected caption that no reference of the photo has are made unlikely (Welleck
  et al. 2020, "Neural Text Generation with Unlikelihood Training").
- `preference`: the correction is preferred to the rejected caption (Rafailov et al. 2023, "Direct Preference
  Optimization", equation 7), beside the cross-entropy.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.loop.world import Picture, World, cider_of, scenes_world
from torch import Tensor
from torch.nn import functional

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders.packing import PackedCaptions
from captionloop.captioner.fitting import fit
from captionloop.captioner.judge import Judge
from captionloop.captioner.options import DecodingOptions
from captionloop.captioner.parameters import TrainingParameters, ValidationParameters
from captionloop.captioner.photos import Batch, CaptionedPhotos
from captionloop.captioner.teaching import Material, TeachingByWords
from captionloop.captioner.workbench import Workbench
from captionloop.feedback.curation import Photos, curate
from captionloop.feedback.parameters import FeedbackParameters
from captionloop.feedback.reading import ratings_table
from captionloop.feedback.replay import RetrainingParameters, training_tables
from captionloop.feedback.simulation import People, Shown, Taste
from captionloop.feedback.wording import AbuseList
from captionloop.vision.features import FeatureManifest
from captionloop.vision.store import FeatureStore


class Memory:
    """Features of all photos there are, in memory: float16 `[R, C]` by SHA-256."""

    def __init__(self, champion: Captioner, grids: dict[str, np.ndarray]) -> None:
        encoder = champion.encoder
        self.fingerprint, self.views = encoder.fingerprint, ("whole",)
        self.rows, self.columns, self.channels = encoder.rows, encoder.columns, encoder.channels
        self._grids = grids

    def grids(self, sha256s: Sequence[str], view: str = "whole") -> np.ndarray:  # noqa: ARG002
        return np.stack([self._grids[one] for one in sha256s])

    def means(self, sha256s: Sequence[str], view: str = "whole") -> np.ndarray:  # noqa: ARG002
        return self.grids(sha256s).astype(np.float32).mean(1)


@dataclass
class Setup:
    """The champion, all features, the tables of the corpus, the scenes."""

    champion: Captioner
    features: Memory
    images: pd.DataFrame
    captions: pd.DataFrame
    world: World


class Signalled(TeachingByWords):
    """Teaching by words, and something about captions that people rejected."""

    signal = "ignore"
    strength = 0.0
    beta = 0.5

    def prepare(self, rejected: dict[str, list[tuple[int, ...]]]) -> None:
        photos = self.material.train
        self.rejected = {
            place: rejected[image_id]
            for place, image_id in enumerate(photos.image_ids)
            if image_id in rejected
        }
        self.reference = copy.deepcopy(self.decoder).eval().requires_grad_(False)

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        rows = [(row, photo) for row, photo in enumerate(batch.photos) if photo in self.rejected]
        if not rows or self.signal == "ignore":
            return loss
        features = batch.features[[row for row, _ in rows]]
        photos = [photo for _, photo in rows]
        bad = [self.rejected[photo][0] for photo in photos]
        if self.signal == "unlikelihood":
            return loss + self.strength * self._unlikelihood(features, photos, bad)
        return loss + self.strength * self._preference(features, photos, bad)

    def _unlikelihood(self, features: Tensor, photos: list[int], bad: list[tuple[int, ...]]) -> Tensor:
        packed = PackedCaptions.pack(bad, list(range(len(bad))), images=len(bad))
        logits = self.decoder(features, packed).logits.float()
        said = {row: {t for c in self.material.train.tokens[p] for t in c} for row, p in enumerate(photos)}
        owner = packed.image[packed.row].tolist()
        wrong = torch.tensor(
            [int(t) not in said[o] and int(t) > 3 for t, o in zip(packed.targets, owner, strict=True)]
        )
        if not wrong.any():
            return logits.sum() * 0
        log_p = torch.log_softmax(logits, -1).gather(1, packed.targets[:, None])[:, 0][wrong]
        return -torch.log1p(-log_p.exp().clamp(max=1 - 1e-4)).mean()

    def _preference(self, features: Tensor, photos: list[int], bad: list[tuple[int, ...]]) -> Tensor:
        good = [self.material.train.tokens[photo][0] for photo in photos]
        gain = self._log_p(self.decoder, features, good) - self._log_p(self.decoder, features, bad)
        with torch.no_grad():
            before = self._log_p(self.reference, features, good) - self._log_p(self.reference, features, bad)
        return -functional.logsigmoid(self.beta * (gain - before)).mean()

    @staticmethod
    def _log_p(decoder: Any, features: Tensor, captions: list[tuple[int, ...]]) -> Tensor:
        packed = PackedCaptions.pack(captions, list(range(len(captions))), images=len(captions))
        logits = decoder(features, packed).logits.float()
        log_p = -functional.cross_entropy(logits, packed.targets, reduction="none")
        return torch.zeros(len(captions)).index_add(0, packed.image[packed.row], log_p)


def set_up(base: Path, bundle: Path) -> Setup:
    """Everything that all runs share."""
    champion = Captioner.load(bundle)
    world = scenes_world(base, "val")
    images = pd.read_parquet(base / "02_intermediate/sample_scenes/images.parquet")
    captions = pd.read_parquet(base / "02_intermediate/sample_scenes/captions.parquet")
    path = base / "04_feature/sample_scenes/features.json"
    manifest = FeatureManifest.model_validate_json(path.read_text())
    store = FeatureStore(path.parent / manifest.store).reader(manifest.views["whole"])
    keys = [key for key, split in zip(images["sha256"], images["split"], strict=True) if split != "test"]
    grids = dict(zip(keys, store.grids(keys), strict=True))
    for pictures in (world.sent, world.shifted_test):
        squares = np.stack([champion.prepare(one.photo) for one in pictures])
        seen = [champion.runtime.encode(squares[n : n + 32]) for n in range(0, len(squares), 32)]
        grids.update(zip([one.sha256 for one in pictures], np.concatenate(seen), strict=True))
    return Setup(champion, Memory(champion, grids), images, captions, world)


def crowd(
    setup: Setup, captioner: Captioner, pictures: Sequence[Picture], people: People, ratings: int, turn: int
) -> pd.DataFrame:
    """What the crowd says of what a captioner says, as a table of ratings."""
    grids = setup.features.grids([one.sha256 for one in pictures])
    said = [
        one.best.text for n in range(0, len(grids), 64) for one in captioner.caption_grids(grids[n : n + 64])
    ]
    shown = [
        Shown(f"{turn}-{n}", text, one.captions)
        for n, (text, one) in enumerate(zip(said, pictures, strict=True))
    ]
    given = people.rate(shown, Taste(setup.world.corpus).share(shown), ratings, turn)
    photo = {
        f"{turn}-{n}": (text, one.sha256) for n, (text, one) in enumerate(zip(said, pictures, strict=True))
    }
    base = pd.Timestamp("2026-11-01", tz="UTC") + pd.Timedelta(days=turn)
    rows: list[tuple[object, ...]] = [
        (turn * 10_000 + n, caption, rater, opinion.stars, opinion.correction,
         *[base + pd.Timedelta(minutes=n)] * 2, photo[caption][0], "1", photo[caption][1])
        for n, (rater, caption, opinion) in enumerate(given)
    ]  # fmt: skip
    return ratings_table(rows)


def tables(
    setup: Setup, ratings: pd.DataFrame, feedback: FeedbackParameters, retraining: RetrainingParameters
) -> Any:
    """What the pipeline would train on, and what was rejected."""
    seen = sorted(set(ratings["image_id"]))
    facts = pd.DataFrame({"sha256": seen, "width": 128, "height": 128, "good": True, "missing": False})
    curated = curate(ratings, Photos(facts), setup.images, setup.captions, AbuseList(frozenset()), feedback)
    images, captions = training_tables(
        (setup.images, setup.captions), (curated.images, curated.references), frozenset(), retraining
    )
    return images, captions, curated


def teach(
    setup: Setup,
    start: Captioner,
    given: Any,
    retraining: RetrainingParameters,
    *,
    signal: str = "ignore",
    strength: float = 0.0,
) -> Captioner:
    """The captioner taught on, as `retraining_training` does it, with a signal added."""
    images, captions, curated = given
    parameters = TrainingParameters(
        name=start.name, decoder=start.decoder.config, decoding=start.decoding, max_length=24,
        validation=ValidationParameters(photos=10, patience=100),
        **retraining.of_training(),
    )  # fmt: skip
    taught = images.loc[images["split"] == "train", "image_id"]
    texts = captions.loc[captions["image_id"].isin(taught), "text"]
    tokenizer = start.tokenizer.grown(texts, min_frequency=retraining.min_frequency * retraining.repeat)
    parts = [
        CaptionedPhotos.from_tables(images, captions, split, tokenizer, max_length=24, photos=photos)
        for split, photos in (("train", None), ("val", 10))
    ]
    material = Material(parts[0], parts[1], setup.features, Judge(parts[1], tokenizer))
    torch.manual_seed(retraining.seed)
    decoder = copy.deepcopy(start.decoder).train()
    decoder.grow(tokenizer.vocabulary_size)
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder) / "work", "x")
        teaching = Signalled(
            decoder, material, parameters, 24, bench, captions_per_photo=5,
            label_smoothing=parameters.label_smoothing, doubly_stochastic=1.0, keep_last=True,
        )  # fmt: skip
        teaching.signal, teaching.strength = signal, strength
        rejected = {
            photo: [tuple(tokenizer.encode(text)) for text in said]
            for photo, said in curated.rejections.groupby("image_id")["text"]
        }
        teaching.prepare({str(photo): said for photo, said in rejected.items()})
        fit(teaching, bench)
        decoder.load_state_dict(bench.best())
    return Captioner(start.name, start.encoder, decoder.eval(), tokenizer, start.decoding)


def quality(setup: Setup, captioner: Captioner) -> tuple[float, float]:
    """CIDEr x100, greedy, on the validation scenes of the shifted and of the first world."""
    plain = DecodingOptions(beam_width=1, alternatives=1)
    found = []
    for pictures in (setup.world.shifted_test, setup.world.first_test):
        grids = setup.features.grids([one.sha256 for one in pictures])
        said = [
            one.best.text
            for n in range(0, len(grids), 100)
            for one in captioner.caption_grids(grids[n : n + 100], plain)
        ]
        found.append(100 * cider_of(said, pictures))
    return found[0], found[1]


def fully_labelled(setup: Setup, retraining: RetrainingParameters) -> Any:
    """The tables with every caption of every shifted training scene: the ceiling."""
    sent = setup.world.sent
    images = pd.DataFrame(
        {"image_id": [one.name for one in sent], "uri": "", "sha256": [one.sha256 for one in sent]}
    ).assign(width=128, height=128, split="train", source="feedback")
    rows = [(f"{one.name}#{n}", one.name, text) for one in sent for n, text in enumerate(one.captions)]
    captions = pd.DataFrame(rows, columns=["caption_id", "image_id", "text"]).assign(
        source="human", weight=1.0
    )
    made = training_tables((setup.images, setup.captions), (images, captions), frozenset(), retraining)
    return *made, type("Curated", (), {"rejections": pd.DataFrame(columns=["image_id", "text"])})


def one_run(
    setup: Setup, retraining: RetrainingParameters, feedback: FeedbackParameters, seed: int, **signal: Any
) -> tuple[float, float]:
    """Two rounds of ratings on all scenes, each followed by teaching on what there is so far."""
    people = People(seed=seed)
    half = len(setup.world.sent) // 2
    captioner, heard = setup.champion, []
    for turn, pictures in enumerate((setup.world.sent[:half], setup.world.sent[half:]), start=1):
        heard.append(crowd(setup, captioner, pictures, people, 500, turn))
        given = tables(setup, pd.concat(heard, ignore_index=True), feedback, retraining)
        captioner = teach(setup, captioner, given, retraining.model_copy(update={"seed": seed}), **signal)
    return quality(setup, captioner)


def show(name: str, values: Iterable[tuple[float, float]], seconds: float) -> None:
    """A row: mean and range over the seeds."""
    table = np.array(list(values))
    mean, low, high = table.mean(0), table.min(0), table.max(0)
    cells = [f"{mean[k]:.1f} ({low[k]:.1f} to {high[k]:.1f})" for k in (0, 1)]
    print(f"| {name} | {cells[0]} | {cells[1]} | {seconds:.0f} |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--bundle", type=Path, default=Path("data/06_models/sample_scenes/candidate"))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--sweep", action="store_true")
    arguments.add_argument("--ceiling", action="store_true")
    arguments.add_argument("--only", default="", help="rows whose name holds this")
    given = arguments.parse_args()
    setup = set_up(given.base, given.bundle)
    plain, feedback = RetrainingParameters(), FeedbackParameters()
    print("| | CIDEr shifted (val) | CIDEr first (val) | seconds |\n|---|---:|---:|---:|")
    show("champion", [quality(setup, setup.champion)], 0)

    def row(
        name: str,
        retraining: RetrainingParameters = plain,
        heard: FeedbackParameters = feedback,
        **signal: Any,
    ) -> None:
        if given.only and given.only not in name:
            return
        begin = time.monotonic()
        found = [one_run(setup, retraining, heard, seed, **signal) for seed in range(given.seeds)]
        show(name, found, time.monotonic() - begin)

    if given.ceiling:
        for epochs, rate in ((8, 1e-3), (12, 2e-3), (20, 1e-3)):
            begin = time.monotonic()
            full = plain.model_copy(update={"epochs": epochs, "learning_rate": rate, "least_replay": 5500})
            taught = teach(setup, setup.champion, fully_labelled(setup, full), full)
            show(
                f"fully labelled, {epochs} epochs, rate {rate:g}",
                [quality(setup, taught)],
                time.monotonic() - begin,
            )
        return
    if given.sweep:
        for name, change in SWEEP:
            row(name, plain.model_copy(update=change))
        return
    unapproved = feedback.model_copy(
        update={"weights": feedback.weights.model_copy(update={"approved": 0.0})}
    )
    row("corrections alone", heard=unapproved)
    row("and approved captions (low ratings ignored)")
    for strength in (0.3, 1.0):
        row(f"and unlikelihood {strength:g}", signal="unlikelihood", strength=strength)
    for strength in (0.1, 0.5):
        row(f"and preference {strength:g}", signal="preference", strength=strength)


SWEEP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("repeat 5, 6 epochs, rate 2e-3", {"repeat": 5, "epochs": 6, "learning_rate": 2e-3}),
    ("repeat 5, 6 epochs, rate 3e-3", {"repeat": 5, "epochs": 6, "learning_rate": 3e-3}),
    ("repeat 8, 4 epochs, rate 3e-3", {"repeat": 8, "epochs": 4, "learning_rate": 3e-3}),
    ("repeat 3, rate 2e-3", {"repeat": 3, "learning_rate": 2e-3}),
)

if __name__ == "__main__":
    main()
