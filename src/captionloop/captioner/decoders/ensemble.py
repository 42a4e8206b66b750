"""Several decoders that say one caption together: the mean of what they think of each next word.

Decoders that were taught apart, from different weights, are wrong about different things, and their mean is
less often wrong than any of them (Hansen and Salamon 1990; in captioning, Vinyals et al. 2016, section 4.3.2,
arXiv 1609.06647). They look at the same grid, so the encoder runs once; a step costs what all of them cost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captionloop.captioner.decoders.base import Decoder, PackedCaptions, State, Step, TeacherForcingOutput
from captionloop.captioner.model_config import EnsembleConfig


@dataclass(frozen=True)
class EnsembleState(State):
    """The states of the members, in their order."""

    members: tuple[State, ...]

    def select(self, rows: Tensor, images: Tensor | None = None) -> "EnsembleState":
        """The members' states of the same hypotheses."""
        return EnsembleState(tuple(member.select(rows, images) for member in self.members))


class Ensemble(Decoder):
    """Says what its members say on average: log of the mean of their probabilities.

    Attention is the mean over the members that attend.
    """

    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig, members: Sequence[Decoder]) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(members)
        self.vocabulary_size, self.channels = members[0].vocabulary_size, members[0].channels
        self.attends = any(member.attends for member in members)

    def begin(self, features: Tensor) -> EnsembleState:
        """The state before the first word."""
        return EnsembleState(tuple(member.begin(features) for member in self.decoders))

    def step(self, tokens: Tensor, state: EnsembleState) -> Step:
        """One word further."""
        steps = [
            member.step(tokens, known) for member, known in zip(self.decoders, state.members, strict=True)
        ]
        looked = [step.attention for step in steps if step.attention is not None]
        return Step(
            _mean_of([step.log_probs for step in steps]),
            EnsembleState(tuple(step.state for step in steps)),
            torch.stack(looked).mean(0) if looked else None,
        )

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing; the logits are log-probabilities."""
        taught = [member(features, captions) for member in self.decoders]
        unattended = [one.unattended for one in taught if one.unattended is not None]
        return TeacherForcingOutput(
            _mean_of([one.logits.float().log_softmax(-1) for one in taught]),
            torch.stack(unattended).mean() if unattended else None,
        )

    def grow(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        for member in self.decoders:
            member.grow(vocabulary_size)
        self.vocabulary_size = vocabulary_size

    @property
    def decoders(self) -> list[Decoder]:
        """The members, in the order of the configuration."""
        return list(self.members)  # type: ignore[arg-type]


def _mean_of(log_probs: Sequence[Tensor]) -> Tensor:
    """Log of the mean of probabilities, `[N, V]` each."""
    return torch.stack(list(log_probs)).logsumexp(0) - math.log(len(log_probs))
