"""What low ratings should teach: the same teaching, with and without a word against rejected captions.

    python -m benchmarks.loop --folder data/loop                 # leaves the runs that this begins with
    python -m benchmarks.learning_signal data/loop/runs/2 data/loop/runs/5

Each run has its encoder, its features and its references; the captioner is taught on from them again, as
`retraining_training` does it and as `conf/` says but with one decoder, once for every signal and seed.
Quality is CIDEr on the *validation* scenes of both worlds, by the search that is served: choices are made
here, results are reported on the test scenes by `benchmarks.loop`.

- `corrections alone`: not even what was approved is learnt from.
- `ignored`: low ratings only keep a caption from being approved.
- `unlikelihood`: words of a rejected caption that no reference of the photo has are made unlikely (Welleck
  et al. 2020, "Neural Text Generation with Unlikelihood Training").
- `preference`: the correction is preferred to the rejected caption (Rafailov et al. 2023, "Direct Preference
  Optimization", equation 7, beta 0.5), beside the cross-entropy.

Both of the latter need a rejected caption of a photo that has a reference.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.loop.project import configured
from benchmarks.loop.world import cider, scenes_world
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders.base import Decoder, PackedCaptions
from captionloop.datasets.model_datasets import FeaturesDataset
from captionloop.feedback.retraining_data import RetrainingParameters
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training import train_captioner
from captionloop.training.caption_data import Batch
from captionloop.training.caption_module import CrossEntropyModule
from captionloop.vision.encoder import Encoder
from captionloop.vision.feature_store import CachedFeatures

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """What a run of retraining has made before it teaches the captioner."""

    images: pd.DataFrame
    captions: pd.DataFrame
    rejections: dict[str, str]
    features: CachedFeatures
    encoder: Encoder
    concept_weights: pd.DataFrame
    base: Captioner
    version: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, corpus: str = "sample_scenes") -> "Run":
        """Read from the workspace of the run."""
        made, learnt = folder / "05_model_input" / corpus, folder / "06_models" / corpus
        primary = folder / "03_primary" / corpus
        rejected = pd.read_parquet(primary / "feedback_rejections.parquet")
        return cls(
            images=pd.read_parquet(made / "images.parquet"),
            captions=pd.read_parquet(made / "captions.parquet"),
            rejections=dict(zip(rejected["image_id"], rejected["text"], strict=True)),
            features=FeaturesDataset(filepath=str(folder / "04_feature" / corpus / "features.json")).load(),
            encoder=Encoder.load(learnt / "retrained_encoder"),
            concept_weights=pd.read_parquet(learnt / "concept_weights.parquet"),
            base=Captioner.load(primary / "origin"),
            version=json.loads((primary / "champion_version.json").read_text()),
        )


class Signalled(CrossEntropyModule):
    """Teaching by words, and something about captions that people rejected."""

    def __init__(self, *args: Any, rejections: Mapping[str, str], strength: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strength = strength
        photos, encode = self.data.train.image_ids, self.data.validation_cider.tokenizer.encode
        own = {place: image_id.split("#")[0] for place, image_id in enumerate(photos)}  # repeated photos
        self.rejected: dict[int, Tokens] = {
            place: tuple(encode(rejections[image_id]))
            for place, image_id in own.items()
            if image_id in rejections
        }

    def loss(self, batch: Batch) -> Tensor:
        """That of teaching by words, and `strength` times the signal's mean over the batch."""
        loss: Tensor = super().loss(batch)
        rows = [row for row, photo in enumerate(batch.photos) if photo in self.rejected]
        if not rows:
            return loss
        photos = [batch.photos[row] for row in rows]
        signal: Tensor = self.signal(batch.features[rows], photos)
        return loss + self.strength * signal

    def signal(self, features: Tensor, photos: list[int]) -> Tensor:
        """What the rejected captions of these photos say, `features` `[P, R, C]`."""
        raise NotImplementedError


class Unlikelihood(Signalled):
    """Equation 5 of Welleck et al. 2020; candidates are the words that no reference of the photo has."""

    def signal(self, features: Tensor, photos: list[int]) -> Tensor:
        """Mean over those words."""
        packed = PackedCaptions.pack([self.rejected[photo] for photo in photos], range(len(photos)))
        logits: Tensor = self.decoder(features, packed).logits.float()
        special = range(CaptionTokenizer.UNK + 1)
        reference_words = [set(special).union(*self.data.train.tokens[photo]) for photo in photos]
        owner = packed.image[packed.row].tolist()
        wrong = torch.tensor(
            [int(t) not in reference_words[o] for t, o in zip(packed.targets, owner, strict=True)]
        )
        if not wrong.any():
            return logits.sum() * 0
        log_p = torch.log_softmax(logits, -1).gather(1, packed.targets[:, None])[:, 0][wrong]
        unlikely = -torch.log1p(-log_p.exp().clamp(max=1 - 1e-4))
        return unlikely.mean()


class Preference(Signalled):
    """Equation 7 of Rafailov et al. 2023; the reference policy is the decoder as it began.

    Nothing is dropped in what is compared: half of a captioner would be compared with a whole one.
    """

    beta: Final = 0.5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reference = copy.deepcopy(self.decoder).eval().requires_grad_(False)

    def signal(self, features: Tensor, photos: list[int]) -> Tensor:
        """Mean over the pairs of a correction and the rejected caption."""
        good = [self.data.train.tokens[photo][0] for photo in photos]
        bad = [self.rejected[photo] for photo in photos]
        self.decoder.eval()
        gain = _log_p(self.decoder, features, good) - _log_p(self.decoder, features, bad)
        self.decoder.train()
        with torch.no_grad():
            before = _log_p(self.reference, features, good) - _log_p(self.reference, features, bad)
        return -functional.logsigmoid(self.beta * (gain - before)).mean()


SIGNALS: Final[dict[str, tuple[type[Signalled], float] | None]] = {
    "ignored": None,
    "corrections alone": None,
    "unlikelihood 0.3": (Unlikelihood, 0.3),
    "unlikelihood 1": (Unlikelihood, 1.0),
    "preference 0.1": (Preference, 0.1),
    "preference 0.5": (Preference, 0.5),
}


def train(run: Run, name: str, parameters: RetrainingParameters) -> Captioner:
    """The origin's captioner taught on by the pipeline's own node, with a signal added to its loss."""
    from captionloop.pipelines.retraining.nodes import train_candidate

    chosen = SIGNALS[name]
    trained = (
        CrossEntropyModule
        if chosen is None
        else partial(chosen[0], rejections=run.rejections, strength=chosen[1])
    )
    captions = run.captions
    if name == "corrections alone":
        captions = captions[captions["source"] != "approved"]
    captioner: Captioner
    report = {"until": None, "used": {"corrections": 0, "approved_captions": 0}}
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(train_captioner, "CrossEntropyModule", trained),
    ):
        captioner, _, _ = train_candidate(
            run.images, captions, run.features, run.encoder, run.concept_weights, run.base, run.version,
            report, {"doubted": 0}, parameters, Path(folder) / "work",
        )  # fmt: skip
    return captioner


def _log_p(decoder: Decoder, features: Tensor, captions: list[Tokens]) -> Tensor:
    packed = PackedCaptions.pack(captions, range(len(captions)))
    logits = decoder(features, packed).logits.float()
    log_p = -functional.cross_entropy(logits, packed.targets, reduction="none")
    return torch.zeros(len(captions)).index_add(0, packed.image[packed.row], log_p)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("runs", type=Path, nargs="+", help="workspaces of finished runs of retraining")
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--only", nargs="+", choices=SIGNALS, default=list(SIGNALS))
    given = arguments.parse_args()
    parameters = RetrainingParameters.model_validate({**configured("retraining"), "decoders": 1})
    world = scenes_world(given.base, "val")
    print("| run | low ratings | CIDEr shifted (val), mean | by seed | first (val), mean | seconds |")
    print("|---|---|---:|---|---:|---:|", flush=True)
    for folder in given.runs:
        run = Run.of(folder)
        for name in given.only:
            begin = time.monotonic()
            trained = [
                train(run, name, parameters.model_copy(update={"seed": seed})) for seed in range(given.seeds)
            ]
            shifted, first = (
                [100 * cider(one, scenes) for one in trained]
                for scenes in (world.shifted_test, world.first_test)
            )
            seeds = ", ".join(f"{value:.1f}" for value in shifted)
            row = f"{np.mean(shifted):.1f} | {seeds} | {np.mean(first):.1f} | {time.monotonic() - begin:.0f}"
            print(f"| {folder} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
