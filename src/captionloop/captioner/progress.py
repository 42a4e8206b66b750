"""How far a training has come: its curves, and which epoch was best."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import pandas as pd


@dataclass(frozen=True)
class EpochRecord:
    """One point of the curves; `train_loss` is what was minimised, `val_loss` nats per token."""

    epoch: int
    train_loss: float
    val_loss: float
    val_cider: float
    learning_rate: float
    seconds: float


@dataclass
class Progress:
    """The epochs so far; part of every checkpoint."""

    records: list[EpochRecord] = field(default_factory=list)
    best_cider: float = -math.inf
    best_epoch: int = -1

    def add(self, record: EpochRecord) -> bool:
        """Take in an epoch; whether it is the best so far."""
        self.records.append(record)
        if not record.val_cider > self.best_cider:  # so that what is no number is never the best
            return False
        self.best_cider, self.best_epoch = record.val_cider, record.epoch
        return True

    def is_over(self, patience: int) -> bool:
        """Whether `patience` epochs went by without a better one."""
        return bool(self.records) and self.records[-1].epoch - self.best_epoch >= patience

    def curves(self) -> pd.DataFrame:
        """One row for each epoch."""
        columns = [item.name for item in fields(EpochRecord)]
        return pd.DataFrame([asdict(record) for record in self.records], columns=columns)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: numbers only."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """From a checkpoint."""
        records = [EpochRecord(**record) for record in state["records"]]
        return cls(records, state["best_cider"], state["best_epoch"])
