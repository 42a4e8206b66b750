"""Lightning modules that train a decoder: the base class, validated by CIDEr-D, and cross-entropy training.

Whatever is random is a function of (seed, epoch): the generators are seeded anew at the beginning of every
epoch. With a checkpoint at the end of each, a run that was killed goes on to the very result of one that was
not.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captionloop.captioner.decoders.base import Decoder, PackedCaptions
from captionloop.captioner.decoding import decode
from captionloop.captioner.model_config import DecodingOptions
from captionloop.errors import TrainingError
from captionloop.hardware import trim_memory
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.caption_data import (
    Batch,
    Batches,
    CaptionedPhotos,
    CaptionGroup,
    Features,
    epoch_batches,
)
from captionloop.training.training_parameters import TrainingParameters
from captionloop.training.training_run import EpochMetrics, MovingAverage, TrainingCurves


@dataclass(frozen=True)
class ValidationCider:
    """CIDEr-D of captions of `photos` against their references."""

    photos: CaptionedPhotos
    tokenizer: CaptionTokenizer

    @cached_property
    def _cider(self) -> CiderD:
        split = self.tokenizer.split
        references = zip(self.photos.image_ids, self.photos.texts, strict=True)
        return CiderD({image_id: [split(text) for text in texts] for image_id, texts in references})

    def cider(self, tokens: Mapping[int, tuple[int, ...]]) -> float:
        """CIDEr (1.0 is "100") of one caption for each photo, by position."""
        words = {
            self.photos.image_ids[photo]: self.tokenizer.decode(ids) for photo, ids in sorted(tokens.items())
        }
        return float(self._cider.score(words)[0])


_STEPS_BETWEEN_TRIMS = 32


class BestWeights(Protocol):
    """Where the best weights so far are saved."""

    def save_best(self, weights: dict[str, Tensor]) -> None:
        """Replace the weights saved before."""


@dataclass(frozen=True)
class CaptionData:
    """Photos and captions for training and validation, their features, and the validation metric."""

    train: CaptionedPhotos
    val: CaptionedPhotos
    features: Features
    validation_cider: ValidationCider


class CaptionModule(pl.LightningModule):
    """A decoder, its optimiser, its averaged weights and its validation after every epoch."""

    captions_per_photo: int | None = None
    keep_last: bool = False

    def __init__(
        self,
        decoder: Decoder,
        data: CaptionData,
        parameters: TrainingParameters,
        max_length: int,
        best_weights: BestWeights,
    ) -> None:
        super().__init__()
        self.decoder, self.data, self.settings, self.best_weights = decoder, data, parameters, best_weights
        self.curves = TrainingCurves()
        self.average = MovingAverage(decoder, parameters.ema_decay)
        beams = parameters.validation.beam_width
        self.validation_decoding = DecodingOptions(beam_width=beams, alternatives=1, max_length=max_length)
        self._losses: list[Tensor] = []
        self._token_losses: dict[tuple[int, ...], tuple[float, int]] = {}
        self._captions: dict[int, tuple[int, ...]] = {}
        self._began = 0.0

    def loss(self, batch: Batch) -> Tensor:
        """What a step minimises."""
        raise NotImplementedError

    # Data: a new order for every epoch (the trainer is told to reload).

    def train_dataloader(self) -> Batches:
        """The batches of the current epoch."""
        return self._batches(self.data.train, self.plan(self.current_epoch))

    def val_dataloader(self) -> Batches:
        """All captions of the validation photos, in their order, photo by photo."""
        groups = [
            CaptionGroup(photo, tuple(range(len(captions))), self.settings.views[0])
            for photo, captions in enumerate(self.data.val.tokens)
        ]
        photos = 64
        plan = [groups[start : start + photos] for start in range(0, len(groups), photos)]
        return self._batches(self.data.val, plan)

    def plan(self, epoch: int) -> list[list[CaptionGroup]]:
        """Which captions make which batch of all processes together in an epoch."""
        return epoch_batches(
            self.data.train,
            seed=self.settings.seed,
            epoch=epoch,
            batch_size=self.settings.batch_size * self.trainer.world_size,
            captions_per_photo=self.captions_per_photo,
            views=self.settings.views,
        )

    def _batches(self, photos: CaptionedPhotos, plan: list[list[CaptionGroup]]) -> Batches:
        trainer = self.trainer
        return Batches(
            photos,
            self.data.features,
            plan,
            grids=self.decoder.attends,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )

    # Steps.

    def on_fit_start(self) -> None:
        """Nothing is left to do when the run that is resumed had been stopped already."""
        self.average.to(self.device)
        self.trainer.should_stop = self.curves.is_over(self.settings.validation.patience)

    def on_train_epoch_start(self) -> None:
        """Seed everything random of this epoch."""
        seeds = np.random.SeedSequence([self.settings.seed, self.current_epoch, self.trainer.global_rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        self._began = time.monotonic()
        self._losses.clear()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of a batch."""
        loss = self.loss(batch)
        self._losses.append(loss.detach())
        return loss

    def process_weight(self, batch: Batch, count: Tensor) -> Tensor:
        """The weight of this process's mean over `count` things among those of all processes: 1 on average.

        DistributedDataParallel takes the mean of the processes' gradients, which is that of all things
        together only where each has as many.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return torch.ones((), device=self.device)
        own = torch.zeros_like(count) if batch.idle else count
        everyone = own.clone()
        torch.distributed.all_reduce(everyone)
        return own * self.trainer.world_size / everyone

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm (here, as Lightning refuses to together with the fused optimiser).

        Gradients are of all processes by now, so that all of them stop where one's loss is no number.

        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.settings.clip_norm)
        loss = self._losses[-1] if self._losses else norm
        if not torch.isfinite(norm + loss):
            raise self._diverged(f"the loss is {float(loss):.4g}, the norm of its gradient {float(norm):.4g}")

    def _diverged(self, what: str) -> TrainingError:
        now = self.settings
        return TrainingError(
            f"Training '{now.name}' stopped in epoch {self.current_epoch + 1}, step {self.global_step}:"
            f" {what}. Give a lower learning_rate (now {now.learning_rate:g}), a longer warmup (now"
            f" {now.warmup:g}) or a smaller clip_norm (now {now.clip_norm:g}), or train with"
            " precision: float32"
        )

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the averaged weights; every 32 steps, return freed memory to the system."""
        self.average.update()
        if self.trainer.global_step % _STEPS_BETWEEN_TRIMS == 0:
            trim_memory()

    def configure_optimizers(self) -> Any:
        """AdamW (matrices decay, vectors do not) with a warmed-up cosine, step by step."""
        matrices = [weight for weight in self.decoder.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.decoder.parameters() if weight.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=(0.9, 0.98), fused=True)
        steps = self.settings.epochs * len(self.plan(0))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int, steps: int) -> float:
        warmup = max(1.0, self.settings.warmup * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        lowest = self.settings.final_learning_rate
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

    # Validation, with the averaged weights.

    def on_validation_epoch_start(self) -> None:
        """Drop the results of the last validation."""
        self._token_losses.clear()
        self._captions.clear()

    def validation_step(self, batch: Batch, _: int) -> None:
        """The loss on a batch's true captions, and a caption for each of its photos."""
        if batch.idle:
            return
        with self.average.applied():
            logits = self.decoder(batch.features, batch.captions).logits
            each = functional.cross_entropy(logits.float(), batch.captions.targets, reduction="none")
            chosen = batch.captions.chosen
            self._token_losses[batch.photos] = (float((each * chosen).sum()), int(chosen.sum()))
            decoded = decode(self.decoder, batch.features, self.validation_decoding)
        captions = (hypotheses[0].tokens for hypotheses in decoded)
        self._captions.update(zip(batch.photos, captions, strict=True))

    def on_validation_epoch_end(self) -> None:
        """Record the epoch, keep the best weights, and stop when nothing has got better for long enough.

        Raises:
            TrainingError: the weights or the validation loss are not finite: nothing of them is kept.
        """
        nats, tokens, captions, losses = self._gathered()
        broken = self.average.not_finite()
        if broken or not math.isfinite(nats):
            what = f"the weights {broken[0]}" if broken else "the validation loss"
            raise self._diverged(f"{what} would be no finite numbers")
        record = EpochMetrics(
            epoch=self.current_epoch,
            train_loss=sum(losses) / max(1, len(losses)),
            val_loss=nats / tokens,
            val_cider=self.data.validation_cider.cider(captions),
            learning_rate=float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self._began,
        )
        better = self.curves.add(record)
        if (better or self.keep_last) and self.trainer.is_global_zero:
            self.best_weights.save_best(self.average.weights())
        self.trainer.should_stop = self.curves.is_over(self.settings.validation.patience)

    def _gathered(self) -> tuple[float, int, dict[int, tuple[int, ...]], list[float]]:
        """What all processes found: summed loss, tokens, captions by photo, and the losses of the steps."""
        own = (self._token_losses, self._captions, [float(loss) for loss in self._losses])
        gathered: list[Any] = [own]
        if self.trainer.world_size > 1:
            gathered *= self.trainer.world_size
            torch.distributed.all_gather_object(gathered, own)
        nats = {photos: found for one in gathered for photos, found in one[0].items()}
        captions = {photo: ids for one in gathered for photo, ids in one[1].items()}
        losses = [loss for one in gathered for loss in one[2]]
        tokens = sum(count for _, count in nats.values())
        return sum(one for one, _ in nats.values()), tokens, captions, losses

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is ours: numbers, strings and tensors only, so that it can be read without unpickling."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["progress"] = self.curves.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.average.load_state_dict(checkpoint["average"])
        self.curves = TrainingCurves.from_state(checkpoint["progress"])


class CrossEntropyModule(CaptionModule):
    """Cross-entropy under teacher forcing, weighted by caption."""

    def __init__(
        self,
        decoder: Decoder,
        data: CaptionData,
        parameters: TrainingParameters,
        max_length: int,
        best_weights: BestWeights,
        *,
        captions_per_photo: int,
        label_smoothing: float,
        doubly_stochastic: float,
        keep_last: bool = False,
    ) -> None:
        super().__init__(decoder, data, parameters, max_length, best_weights)
        self.keep_last = keep_last
        self.captions_per_photo = captions_per_photo
        self.label_smoothing, self.doubly_stochastic = label_smoothing, doubly_stochastic

    def loss(self, batch: Batch) -> Tensor:
        """Equation 14 of Xu et al. 2015, per token."""
        output = self.decoder(batch.features, batch.captions)
        loss = caption_loss(output.logits, batch.captions, self.label_smoothing)
        loss = loss * self.process_weight(batch, batch.captions.mass)
        if output.attention_penalty is not None and self.doubly_stochastic:
            regions = batch.features.shape[1]
            rows = self.process_weight(batch, torch.tensor(float(batch.captions.rows), device=self.device))
            loss = loss + self.doubly_stochastic * output.attention_penalty / regions * rows
        return loss


def caption_loss(logits: Tensor, captions: PackedCaptions, label_smoothing: float) -> Tensor:
    """Cross-entropy per token, `[M, V]` logits, each token counting as much as its caption's weight.

    A caption that was cut has not ended: the end token that stands behind it does not count.
    """
    each = functional.cross_entropy(
        logits.float(), captions.targets, reduction="none", label_smoothing=label_smoothing
    )
    weight = captions.weight[captions.row] * captions.chosen
    return (each * weight).sum() / captions.mass
