"""Runs a training module to its end with Lightning: in one process or several, resumed after a kill."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from captionloop.errors import TrainingError
from captionloop.hardware import precision_here
from captionloop.training.caption_module import CaptionModule
from captionloop.training.processes import Member, run_together
from captionloop.training.training_parameters import TrainingParameters
from captionloop.training.training_run import AtomicCheckpoints, TrainingCurves, TrainingRun

logger = logging.getLogger(__name__)


def fit(module: CaptionModule, run: TrainingRun) -> TrainingCurves:
    """Trains a module from the last whole epoch in the run's folder on; returns at once where that is over.

    The best weights are then in that folder.

    Raises:
        TrainingError: the loss or the weights became no numbers, or a process is gone. The best weights
            before that are still in the folder.
    """
    finished = run.finished()
    if finished is not None:
        logger.info("Training of the same inputs was finished before (%s): taken over.", run.folder)
        return finished
    if run.checkpoint is not None:
        logger.info("Training goes on from %s.", run.checkpoint)
    processes = module.settings.processes
    try:
        if processes.devices * processes.nodes == 1:
            _fit_in_process(module, run)
        else:
            run_together(partial(_fit_in_process, module, run), processes, run.folder, module.settings.name)
    except TrainingError as error:
        kept = f"the best weights before that are kept in {run.folder}" if run.has_best else ""
        raise TrainingError(f"{error}; {kept or 'no epoch had been finished'}") from error
    return run.finish()


def _fit_in_process(module: CaptionModule, run: TrainingRun, member: Member | None = None) -> None:
    """Trains as the only process, or as one of several."""
    with _quiet_lightning():
        trainer = _trainer(module.settings, run, member)
        trainer.fit(module, ckpt_path=run.checkpoint, weights_only=True)


class _ProcessEnvironment(LightningEnvironment):
    """The address and ranks of the processes of a fit, for Lightning, which starts none itself then."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self._member = member

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._member.address

    @property
    def main_port(self) -> int:
        return self._member.port

    def local_rank(self) -> int:
        return self._member.local_rank

    def node_rank(self) -> int:
        return self._member.rank // self._member.devices

    def teardown(self) -> None:
        """Lightning's own takes a variable of torchrun's away."""


def _trainer(parameters: TrainingParameters, run: TrainingRun, member: Member | None) -> pl.Trainer:
    processes = parameters.processes
    on_gpu = processes.accelerator != "cpu" and torch.cuda.is_available()
    last = ModelCheckpoint(
        dirpath=run.folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=processes.devices,
        num_nodes=processes.nodes,
        strategy="auto" if member is None else "ddp",
        precision=_precision(parameters, "cuda" if on_gpu else "cpu"),
        max_epochs=parameters.epochs,
        callbacks=[_Report(), last],
        plugins=[AtomicCheckpoints(), *([] if member is None else [_ProcessEnvironment(member)])],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=run.folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _precision(parameters: TrainingParameters, device_type: str) -> Literal["bf16-mixed", "32-true"]:
    return "bf16-mixed" if precision_here(parameters.precision, device_type) == "bfloat16" else "32-true"


_LIGHTNING: Final = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's tips, its list of devices, and warnings about what is done on purpose.

    It comes under two names, and the one imported last has the log that both write to: MLflow imports the
    older one.
    """
    loggers = [logging.getLogger(name) for name in _LIGHTNING]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


class _Report(Callback):
    """A bar with the time left on a terminal, and a line in the log for every epoch."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._began = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._began, self._first_epoch = time.monotonic(), trainer.current_epoch
        if sys.stderr.isatty() and trainer.is_global_zero:
            columns = (
                TextColumn("[progress.description]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps, left:"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, transient=True)
            self._bar.start()
            steps = int(trainer.num_training_batches) * int(trainer.max_epochs or 0)
            self._bar.add_task("training", total=steps, completed=trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, CaptionModule):
            return
        training_curves, epochs = pl_module.curves, int(trainer.max_epochs or 0)
        record = training_curves.records[-1]
        each = (time.monotonic() - self._began) / (record.epoch + 1 - self._first_epoch)
        logger.info(
            "epoch %d/%d: loss %.3f, val loss %.3f, val CIDEr %.3f (best %.3f), %.1f s, at most %.0f s left",
            record.epoch + 1,
            epochs,
            record.train_loss,
            record.val_loss,
            record.val_cider,
            training_curves.best_cider,
            record.seconds,
            each * (epochs - record.epoch - 1),
        )

    def teardown(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
