"""Teaching a decoder with Lightning: what every way of teaching shares, and the first, by words.

Whatever is random is a function of (seed, epoch): the generators are seeded anew at the beginning of every
epoch. With a checkpoint at the end of each, a run that was killed goes on to the very result of one that was
not.
"""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captionloop.captioner.averaging import MovingAverage
from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.decoders.packing import PackedCaptions
from captionloop.captioner.decoding import DecodingOptions, decode
from captionloop.captioner.judge import Judge
from captionloop.captioner.parameters import FitParameters
from captionloop.captioner.photos import Batch, Batches, CaptionedPhotos, Features, Share, plan_epoch
from captionloop.captioner.progress import EpochRecord, Progress
from captionloop.memory import give_back

_STEPS_BETWEEN_GIVING_BACK = 32


class Keeper(Protocol):
    """Where the best weights so far are kept."""

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Replace what was kept before."""


@dataclass(frozen=True)
class Material:
    """What a decoder is taught with and examined on."""

    train: CaptionedPhotos
    val: CaptionedPhotos
    features: Features
    judge: Judge


class Teaching(pl.LightningModule):
    """A decoder, its optimiser, its averaged weights and its examination after every epoch."""

    captions_per_photo: int | None = None
    keep_last: bool = False

    def __init__(
        self, decoder: Decoder, material: Material, parameters: FitParameters, max_length: int, keeper: Keeper
    ) -> None:
        super().__init__()
        self.decoder, self.material, self.fit, self.keeper = decoder, material, parameters, keeper
        self.progress = Progress()
        self.average = MovingAverage(decoder, parameters.average_decay)
        beams = parameters.validation.beam_width
        self.examination = DecodingOptions(beam_width=beams, alternatives=1, max_length=max_length)
        self._losses: list[Tensor] = []
        self._nats: list[tuple[Tensor, int]] = []
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
            Share(photo, tuple(range(len(captions))), self.fit.views[0])
            for photo, captions in enumerate(self.material.val.tokens)
        ]
        photos = 64
        plan = [shares[start : start + photos] for start in range(0, len(shares), photos)]
        return self._batches(self.material.val, plan)

    def plan(self, epoch: int) -> list[list[Share]]:
        """Which captions make which batch in an epoch."""
        return plan_epoch(
            self.material.train,
            seed=self.fit.seed,
            epoch=epoch,
            batch_size=self.fit.batch_size,
            captions_per_photo=self.captions_per_photo,
            views=self.fit.views,
        )

    def _batches(self, photos: CaptionedPhotos, plan: list[list[Share]]) -> Batches:
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

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm (here, as Lightning refuses to together with the fused optimiser)."""
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.fit.clip_norm)

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the average follow; now and then, give back the memory that lies idle."""
        self.average.update()
        if self.trainer.global_step % _STEPS_BETWEEN_GIVING_BACK == 0:
            give_back()

    def configure_optimizers(self) -> Any:
        """AdamW (matrices decay, vectors do not) with a warmed-up cosine, step by step."""
        matrices = [weight for weight in self.decoder.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.decoder.parameters() if weight.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.fit.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.fit.learning_rate, betas=(0.9, 0.98), fused=True)
        steps = self.fit.epochs * -(-len(self.plan(0)) // self.trainer.world_size)
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
        with self.average.applied():
            logits = self.decoder(batch.features, batch.captions).logits
            targets = batch.captions.targets
            self._nats.append(
                (functional.cross_entropy(logits.float(), targets, reduction="sum"), len(targets))
            )
            found = decode(self.decoder, batch.features, self.examination)
        said = (hypotheses[0].tokens for hypotheses in found)
        self._said.update(zip(batch.photos, said, strict=True))

    def on_validation_epoch_end(self) -> None:
        """Record the epoch, keep the best weights, and stop when nothing has got better for long enough."""
        nats, tokens, said, losses = self._everyone()
        record = EpochRecord(
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
        mine = (
            sum(float(nats) for nats, _ in self._nats),
            sum(tokens for _, tokens in self._nats),
            self._said,
            [float(loss) for loss in self._losses],
        )
        if self.trainer.world_size == 1:
            return mine
        theirs: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(theirs, mine)
        said = {photo: tokens for one in theirs for photo, tokens in one[2].items()}
        losses = [loss for one in theirs for loss in one[3]]
        return sum(one[0] for one in theirs), sum(one[1] for one in theirs), said, losses

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is ours: numbers, strings and tensors only, so that it can be read without unpickling."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["progress"] = self.progress.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.average.load_state_dict(checkpoint["average"])
        self.progress = Progress.from_state(checkpoint["progress"])


class TeachingByWords(Teaching):
    """Cross-entropy under teacher forcing, weighted by caption."""

    def __init__(
        self,
        decoder: Decoder,
        material: Material,
        parameters: FitParameters,
        max_length: int,
        keeper: Keeper,
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
        if taught.unattended is not None and self.doubly_stochastic:
            regions = batch.features.shape[1]
            loss = loss + self.doubly_stochastic * taught.unattended / regions
        return loss


def caption_loss(logits: Tensor, captions: PackedCaptions, label_smoothing: float) -> Tensor:
    """Cross-entropy per token, `[M, V]` logits, each token counting as much as its caption's weight."""
    each = functional.cross_entropy(
        logits.float(), captions.targets, reduction="none", label_smoothing=label_smoothing
    )
    weight = captions.weight[captions.row]
    return (each * weight).sum() / weight.sum()
