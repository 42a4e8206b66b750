"""Encoder adaptation: fine-tunes an encoder to classify the visual concepts of a corpus's captions.

The concepts of a photo are a multi-label problem with soft targets: which share of its captions has
each. So a system that caches features can still train its encoder (Fang et al. 2015; Wu et al. 2016).
"""

import hashlib
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from captionloop.errors import CorpusError, TrainingError, first_line
from captionloop.files import write_file
from captionloop.hardware import precision_here
from captionloop.images import Pixels
from captionloop.languages import ENGLISH, Language
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import SQUASHED
from captionloop.progress import progress
from captionloop.training.concept_classifier import ConceptModel, FrozenLayers
from captionloop.training.encoder_data import DecodedPhotos, augment, decode_photos
from captionloop.training.muon import Muon, mixes_channels
from captionloop.training.training_parameters import AdaptationParameters
from captionloop.training.training_run import UNREADABLE
from captionloop.vision.concepts import concept_targets
from captionloop.vision.encoder import Encoder, not_finite

Targets = NDArray[np.float32]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConceptData:
    """Photos and their concepts, float32 `[photos, concepts]`; the first `train` are for training."""

    pixels: DecodedPhotos
    targets: Targets
    train: int

    def validation(self) -> range:
        """The positions of the validation photos."""
        return range(self.train, len(self.targets))


@dataclass(frozen=True)
class EncoderTrainingResult:
    """The trained encoder, its curves (one row per epoch), and its logits of the validation photos.

    `logits` are float32 `[photos, concepts]`; `weights` those of the classifier, float32
    `[concepts, channels]`.
    """

    encoder: Encoder
    curves: pd.DataFrame
    logits: NDArray[np.float32]
    weights: NDArray[np.float32]


def adapt(
    encoder: Encoder, data: ConceptData, parameters: AdaptationParameters, checkpoint: Path
) -> EncoderTrainingResult:
    """Trains the encoder for `parameters.epochs`; started again after a kill, it goes on from `checkpoint`.

    The result is the same as without the kill: each epoch has random numbers of its own.

    Raises:
        EncoderError: `parameters.frozen` is not one of the encoder's layers.
        TrainingError: the loss or the weights became no numbers; `checkpoint` is of the last whole epoch.
    """
    training = _EncoderTraining(encoder, data, parameters)
    first = training.resume(checkpoint)
    total = (parameters.epochs - first) * training.steps * parameters.batch_size
    with progress("Teaching the encoder", total, "images") as advance:
        for epoch in range(first, parameters.epochs):
            training.epoch(epoch, advance)
            training.save(checkpoint)
    logits, _ = training.predict_validation()
    trained, weights = training.result()
    return EncoderTrainingResult(trained, pd.DataFrame(training.curves), logits, weights)


class _EncoderTraining:
    """One training: model, optimiser, averages and curves."""

    def __init__(self, encoder: Encoder, data: ConceptData, parameters: AdaptationParameters) -> None:
        self._encoder = encoder
        self._data = data
        self._parameters = parameters
        self._size = encoder.spec.input_size
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._bfloat16 = precision_here(encoder.spec.precision, self._device.type) == "bfloat16"
        self._frozen = FrozenLayers(encoder, parameters.frozen)
        self.steps = max(1, data.train // parameters.batch_size)
        model = ConceptModel(encoder, data.targets[: data.train].mean(0), parameters)
        self._model = model.to(self._device).to(memory_format=torch.channels_last)
        decay = get_ema_multi_avg_fn(parameters.ema_decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self._model, multi_avg_fn=decay, use_buffers=True)
        self._optimizer = Muon(_groups(self._model, parameters))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._one_cycle)
        self.curves: list[dict[str, float]] = []

    def epoch(self, epoch: int, advance: Callable[[int], None]) -> None:
        """One pass over the training photos, then validation with the averaged weights."""
        begin, losses = time.perf_counter(), 0.0
        torch.manual_seed(self._parameters.seed * 1_000_003 + epoch)
        self._model.train()
        for inputs, targets in self._batches(epoch):
            with self._arithmetic():
                logits = self._model(inputs)
            loss = _loss(logits, targets)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self._model.parameters(), 5.0)
            value = loss.item()
            if not math.isfinite(value + norm.item()):
                raise self._diverged(epoch, f"the loss is {value:.4g}, its gradient's norm {norm.item():.4g}")
            self._optimizer.step()
            self._schedule.step()
            self.averaged.update_parameters(self._model)
            losses += value
            advance(len(targets))
        broken = not_finite(self._model.state_dict()) + not_finite(self.averaged.state_dict())
        if broken:
            raise self._diverged(epoch, f"the weights {broken[0]} would be no finite numbers")
        validation_loss, precision = self._validate()
        self.curves.append(
            {
                "epoch": epoch,
                "train_loss": losses / self.steps,
                "val_loss": validation_loss,
                "val_map": precision,
                "learning_rate": float(self._schedule.get_last_lr()[0]),
                "seconds": time.perf_counter() - begin,
            }
        )

    def _diverged(self, epoch: int, what: str) -> TrainingError:
        return TrainingError(
            f"Teaching the encoder stopped in epoch {epoch + 1}: {what}. Give a lower learning_rate (now"
            f" {self._parameters.learning_rate:g}) or head_learning_rate (now"
            f" {self._parameters.head_learning_rate:g}); what it had learnt before is kept"
        )

    def result(self) -> tuple[Encoder, NDArray[np.float32]]:
        """The encoder and its classifier `[concepts, channels]`, averaged weights; ends the training."""
        model = self.averaged.module
        assert isinstance(model, ConceptModel)
        return model.assemble(self._encoder), model.head.weight.detach().float().cpu().numpy().copy()

    def save(self, path: Path) -> None:
        """Writes all that the next epoch depends on, beside its place and then onto it."""
        write_file(path, lambda partial: torch.save({"curves": self.curves, **self._state()}, partial))

    def resume(self, path: Path) -> int:
        """Goes back to what `save` wrote, where there is something; the number of epochs that are done."""
        if path.exists():
            try:
                found = torch.load(path, map_location=self._device, weights_only=True)
                broken = not_finite(found["model"]) + not_finite(found["averaged"])
                curves, states = found["curves"], {name: found[name] for name in self._stateful()}
            except UNREADABLE as error:
                reason = first_line(error)[:200]
                logger.warning("%s cannot be read (%s): the encoder is taught anew", path, reason)
                return 0
            if broken:
                logger.warning("%s holds weights that are not finite: the encoder is taught anew", path)
                return 0
            for name, part in self._stateful().items():
                part.load_state_dict(states[name])
            self.curves = curves
        return len(self.curves)

    def _stateful(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "averaged": self.averaged,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
        }

    def _state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def _one_cycle(self, step: int) -> float:
        warm = max(1.0, self._parameters.warm_up * self.steps * self._parameters.epochs)
        if step < warm:
            return (step + 1) / (warm + 1)
        left = self.steps * self._parameters.epochs - warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(left, 1.0))))

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = list(range(self._data.train))
        random.Random(f"{self._parameters.seed}/{epoch}").shuffle(order)  # noqa: S311
        size = self._parameters.batch_size

        def augmented(number: int) -> Pixels:
            seed = f"{self._parameters.seed}/{epoch}/{number}"
            return augment(self._data.pixels[number], self._size, self._parameters.augmentation, seed)

        batches = [order[at : at + size] for at in range(0, self.steps * size, size)]
        return self._prepared(batches, augmented)

    def _prepared(
        self, batches: Sequence[Sequence[int]], load: Callable[[int], Pixels]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs of the trained layers and targets; the next one is made during a step."""

        def prepare(numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
            inputs = self._frozen(np.stack([load(number) for number in numbers]))
            return inputs, torch.from_numpy(self._data.targets[numbers])

        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(prepare, batches[0]) if batches else None
            following = iter(batches[1:])
            while upcoming is not None:
                inputs, targets = upcoming.result()
                numbers = next(following, None)
                upcoming = pool.submit(prepare, numbers) if numbers is not None else None
                yield inputs.to(self._device), targets.to(self._device)

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)

    def predict_validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of the averaged weights for the validation photos, and their targets."""
        numbers = list(self._data.validation())
        self.averaged.eval()
        size = self._parameters.batch_size
        batches = [numbers[at : at + size] for at in range(0, len(numbers), size)]
        none = np.empty((0, self._data.targets.shape[1]), np.float32)
        logits, targets = [none], [none]
        with torch.inference_mode(), self._arithmetic():
            for inputs, expected in self._prepared(batches, self._data.pixels.__getitem__):
                logits.append(self.averaged(inputs).float().cpu().numpy())
                targets.append(expected.cpu().numpy())
        return np.concatenate(logits), np.concatenate(targets)

    def _validate(self) -> tuple[float, float]:
        """Loss and mean average precision on the validation photos; NaN where there are none."""
        logits, targets = self.predict_validation()
        if not len(logits):
            return math.nan, math.nan
        loss = _loss(torch.from_numpy(logits), torch.from_numpy(targets)).item()
        return loss, mean_average_precision(logits, targets > 0)


def mean_average_precision(scores: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """How well scores `[photos, concepts]` rank the photos: the mean over the concepts that occur at all."""
    occurring = present.any(axis=0)
    order = np.argsort(-scores[:, occurring], axis=0, kind="stable")
    hits = np.take_along_axis(present[:, occurring], order, axis=0)
    precision = hits.cumsum(axis=0) / np.arange(1, len(hits) + 1)[:, None]
    return float(((precision * hits).sum(axis=0) / hits.sum(axis=0)).mean())


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, summed over the concepts."""
    return binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(targets)


def _groups(model: ConceptModel, parameters: AdaptationParameters) -> list[dict[str, Any]]:
    """Weights decay, biases and scales do not; the head learns at its own rate, and Muon what is given it."""
    groups = []
    for part, rate in ((model.body, parameters.learning_rate), (model.head, parameters.head_learning_rate)):
        learning = [weight for weight in part.parameters() if weight.requires_grad]
        matrices = [weight for weight in learning if weight.ndim > 1]
        vectors = [weight for weight in learning if weight.ndim <= 1]
        mixing = []
        if parameters.muon_learning_rate is not None and part is model.body:
            mixing = [weight for weight in matrices if mixes_channels(weight)]
            matrices = [weight for weight in matrices if not mixes_channels(weight)]
        groups.append({"params": matrices, "lr": rate, "weight_decay": parameters.weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
        if mixing:
            groups.append({"params": mixing, "lr": parameters.muon_learning_rate, "orthogonal": True})
    return groups


CURVES = ("epoch", "train_loss", "val_loss", "val_map", "learning_rate", "seconds")


def train_encoder(  # noqa: PLR0917 - the tables, then what is done with them
    images: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: Sequence[str],
    photos: Mapping[str, PhotoFolder],
    encoder: Encoder,
    parameters: AdaptationParameters,
    folder: Path,
    language: Language = ENGLISH,
) -> EncoderTrainingResult:
    """Trains the encoder on the concepts of the training split, validated on the validation split.

    `photos` are the folders by the images' `source`. `folder` is a folder for decoded photos and the
    checkpoint; with other inputs it begins anew there.

    Raises:
        CorpusError: there are no training photos, or one is missing.
        ImageError: a photo cannot be decoded.
        EncoderError: `parameters.frozen` is not a layer of the encoder.
    """
    chosen = pd.concat([images[images["split"] == "train"], images[images["split"] == "val"]])
    train = int((chosen["split"] == "train").sum())
    if not train:
        raise CorpusError("no photo is in the training split: there is nothing to teach the encoder")
    targets = concept_targets(captions, concepts, chosen["image_id"].tolist(), language)
    size = parameters.input_size or encoder.spec.input_size
    preprocessing = encoder.spec.preprocessing
    recipe = [] if preprocessing == SQUASHED else [preprocessing.model_dump()]
    pixels_path = folder / f"pixels-{_digest(chosen['sha256'].tolist(), size, *recipe)}.bin"
    digest = _digest(encoder.fingerprint, pixels_path.name, targets.tobytes().hex(), parameters.model_dump())
    checkpoint = folder / f"checkpoint-{digest}.pt"
    _remove_others(folder, kept=(pixels_path, checkpoint))
    places = [(photos[source], uri) for source, uri in zip(chosen["source"], chosen["uri"], strict=True)]
    pixels = decode_photos(places, size, preprocessing, pixels_path)
    try:
        resized = encoder.respecified(input_size=size)
        result = adapt(resized, ConceptData(pixels, targets, train), parameters, checkpoint)
    finally:
        pixels.close()
    return replace(result, encoder=result.encoder.respecified(input_size=encoder.spec.input_size))


def no_curves() -> pd.DataFrame:
    """The (empty) curves of an encoder that was not trained."""
    return pd.DataFrame({name: np.empty(0) for name in CURVES})


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _remove_others(folder: Path, kept: tuple[Path, ...]) -> None:
    """Removes the files of trainings of other inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*folder.glob("pixels-*.bin"), *folder.glob("checkpoint-*.pt")]:
        if path not in kept:
            path.unlink()
