"""Tables and features in, a Lightning module out: cross-entropy training, validated by CIDEr-D.

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
from captionloop.memory import trim_memory
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
    """Compares captions of `photos` with their references."""

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


_STEPS_BETWEEN_GIVING_BACK = 32


class BestCheckpoint(Protocol):
    """Where the best weights so far are kept."""

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Replace what was kept before."""


@dataclass(frozen=True)
class CaptionData:
    """What a decoder is taught with and examined on."""

    train: CaptionedPhotos
    val: CaptionedPhotos
    features: Features
    judge: ValidationCider


class CaptionModule(pl.LightningModule):
    """A decoder, its optimiser, its averaged weights and its examination after every epoch."""

    captions_per_photo: int | None = None
    keep_last: bool = False

    def __init__(
        self,
        decoder: Decoder,
        material: CaptionData,
        parameters: TrainingParameters,
        max_length: int,
        keeper: BestCheckpoint,
    ) -> None:
        super().__init__()
        self.decoder, self.material, self.fit, self.keeper = decoder, material, parameters, keeper
        self.progress = TrainingCurves()
        self.average = MovingAverage(decoder, parameters.ema_decay)
        beams = parameters.validation.beam_width
        self.examination = DecodingOptions(beam_width=beams, alternatives=1, max_length=max_length)
        self._losses: list[Tensor] = []
        self._nats: dict[tuple[int, ...], tuple[float, int]] = {}
        self._said: dict[int, tuple[int, ...]] = {}
        self._began = 0.0

    def loss(self, batch: Batch) -> Tensor:
        """What a step minimises."""
        raise NotImplementedError

    # Data: a new order for every epoch (the trainer is told to reload).

    def train_dataloader(self) -> Batches:
        """The batches of the current epoch."""
        return self._batches(self.material.train, self.plan(self.current_epoch))

    def val_dataloader(self) -> Batches:
        """All captions of the validation photos, in their order, photo by photo."""
        shares = [
            CaptionGroup(photo, tuple(range(len(captions))), self.fit.views[0])
            for photo, captions in enumerate(self.material.val.tokens)
        ]
        photos = 64
        plan = [shares[start : start + photos] for start in range(0, len(shares), photos)]
        return self._batches(self.material.val, plan)

    def plan(self, epoch: int) -> list[list[CaptionGroup]]:
        """Which captions make which batch of all processes together in an epoch."""
        return epoch_batches(
            self.material.train,
            seed=self.fit.seed,
            epoch=epoch,
            batch_size=self.fit.batch_size * self.trainer.world_size,
            captions_per_photo=self.captions_per_photo,
            views=self.fit.views,
        )

    def _batches(self, photos: CaptionedPhotos, plan: list[list[CaptionGroup]]) -> Batches:
        trainer = self.trainer
        return Batches(
            photos,
            self.material.features,
            plan,
            grids=self.decoder.attends,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )

    # Steps.

    def on_fit_start(self) -> None:
        """Nothing is left to do when the run that is resumed had been stopped already."""
        self.average.to(self.device)
        self.trainer.should_stop = self.progress.is_over(self.fit.validation.patience)

    def on_train_epoch_start(self) -> None:
        """Seed everything random of this epoch."""
        seeds = np.random.SeedSequence([self.fit.seed, self.current_epoch, self.trainer.global_rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        self._began = time.monotonic()
        self._losses.clear()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of a batch."""
        loss = self.loss(batch)
        self._losses.append(loss.detach())
        return loss

    def part(self, batch: Batch, count: Tensor) -> Tensor:
        """What a mean over `count` things counts beside those of the other processes: 1 on average.

        DistributedDataParallel takes the mean of the processes' gradients, which is that of all things
        together only where each has as many.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return torch.ones((), device=self.device)
        mine = torch.zeros_like(count) if batch.idle else count
        everyone = mine.clone()
        torch.distributed.all_reduce(everyone)
        return mine * self.trainer.world_size / everyone

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm (here, as Lightning refuses to together with the fused optimiser).

        Gradients are of all processes by now, so that all of them stop where one's loss is no number.

        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.fit.clip_norm)
        loss = self._losses[-1] if self._losses else norm
        if not torch.isfinite(norm + loss):
            raise self._diverged(f"the loss is {float(loss):.4g}, the norm of its gradient {float(norm):.4g}")

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"Training '{self.fit.name}' stopped in epoch {self.current_epoch + 1}, step {self.global_step}:"
            f" {what}. Give a lower learning_rate (now {self.fit.learning_rate:g}), a longer warmup (now"
            f" {self.fit.warmup:g}) or a smaller clip_norm (now {self.fit.clip_norm:g}), or train with"
            " precision: float32"
        )

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the average follow; now and then, give back the memory that lies idle."""
        self.average.update()
        if self.trainer.global_step % _STEPS_BETWEEN_GIVING_BACK == 0:
            trim_memory()

    def configure_optimizers(self) -> Any:
        """AdamW (matrices decay, vectors do not) with a warmed-up cosine, step by step."""
        matrices = [weight for weight in self.decoder.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.decoder.parameters() if weight.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.fit.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.fit.learning_rate, betas=(0.9, 0.98), fused=True)
        steps = self.fit.epochs * len(self.plan(0))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int, steps: int) -> float:
        warmup = max(1.0, self.fit.warmup * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        lowest = self.fit.final_learning_rate
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

    # Examination, by the averaged weights.

    def on_validation_epoch_start(self) -> None:
        """Forget the last examination."""
        self._nats.clear()
        self._said.clear()

    def validation_step(self, batch: Batch, _: int) -> None:
        """The loss on a batch's true captions, and a caption for each of its photos."""
        if batch.idle:
            return
        with self.average.applied():
            logits = self.decoder(batch.features, batch.captions).logits
            each = functional.cross_entropy(logits.float(), batch.captions.targets, reduction="none")
            chosen = batch.captions.chosen
            self._nats[batch.photos] = (float((each * chosen).sum()), int(chosen.sum()))
            found = decode(self.decoder, batch.features, self.examination)
        said = (hypotheses[0].tokens for hypotheses in found)
        self._said.update(zip(batch.photos, said, strict=True))

    def on_validation_epoch_end(self) -> None:
        """Record the epoch, keep the best weights, and stop when nothing has got better for long enough.

        Raises:
            TrainingError: the weights, or what is said of them, are not finite: nothing of them is kept.
        """
        nats, tokens, said, losses = self._everyone()
        broken = self.average.not_finite()
        if broken or not math.isfinite(nats):
            what = f"the weights {broken[0]}" if broken else "the validation loss"
            raise self._diverged(f"{what} would be no finite numbers")
        record = EpochMetrics(
            epoch=self.current_epoch,
            train_loss=sum(losses) / max(1, len(losses)),
            val_loss=nats / tokens,
            val_cider=self.material.judge.cider(said),
            learning_rate=float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self._began,
        )
        better = self.progress.add(record)
        if (better or self.keep_last) and self.trainer.is_global_zero:
            self.keeper.keep(self.average.weights())
        self.trainer.should_stop = self.progress.is_over(self.fit.validation.patience)

    def _everyone(self) -> tuple[float, int, dict[int, tuple[int, ...]], list[float]]:
        """What all processes found: summed loss, tokens, captions by photo, and the losses of the steps."""
        mine = (self._nats, self._said, [float(loss) for loss in self._losses])
        theirs: list[Any] = [mine]
        if self.trainer.world_size > 1:
            theirs *= self.trainer.world_size
            torch.distributed.all_gather_object(theirs, mine)
        nats = {photos: found for one in theirs for photos, found in one[0].items()}
        said = {photo: tokens for one in theirs for photo, tokens in one[1].items()}
        losses = [loss for one in theirs for loss in one[2]]
        return sum(one for one, _ in nats.values()), sum(count for _, count in nats.values()), said, losses

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is ours: numbers, strings and tensors only, so that it can be read without unpickling."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["progress"] = self.progress.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.average.load_state_dict(checkpoint["average"])
        self.progress = TrainingCurves.from_state(checkpoint["progress"])


class CrossEntropyModule(CaptionModule):
    """Cross-entropy under teacher forcing, weighted by caption."""

    def __init__(
        self,
        decoder: Decoder,
        material: CaptionData,
        parameters: TrainingParameters,
        max_length: int,
        keeper: BestCheckpoint,
        *,
        captions_per_photo: int,
        label_smoothing: float,
        doubly_stochastic: float,
        keep_last: bool = False,
    ) -> None:
        super().__init__(decoder, material, parameters, max_length, keeper)
        self.keep_last = keep_last
        self.captions_per_photo = captions_per_photo
        self.label_smoothing, self.doubly_stochastic = label_smoothing, doubly_stochastic

    def loss(self, batch: Batch) -> Tensor:
        """Equation 14 of Xu et al. 2015, per token."""
        taught = self.decoder(batch.features, batch.captions)
        loss = caption_loss(taught.logits, batch.captions, self.label_smoothing)
        loss = loss * self.part(batch, batch.captions.mass)
        if taught.attention_penalty is not None and self.doubly_stochastic:
            regions = batch.features.shape[1]
            rows = self.part(batch, torch.tensor(float(batch.captions.rows), device=self.device))
            loss = loss + self.doubly_stochastic * taught.attention_penalty / regions * rows
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
