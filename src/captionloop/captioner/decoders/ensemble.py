"""Several decoders as one: log of the mean of their probabilities of each next word.

Decoders trained apart, from different weights, make different errors, and their mean is less often wrong
than any of them (Hansen and Salamon 1990; in captioning, Vinyals et al. 2016, section 4.3.2,
arXiv 1609.06647). They attend to the same grid, so the encoder runs once; a step costs what all of them cost.
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
    """An ensemble of decoders with one vocabulary: log of the mean of their probabilities.

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
            member.step(tokens, member_state)
            for member, member_state in zip(self.decoders, state.members, strict=True)
        ]
        attended = [step.attention for step in steps if step.attention is not None]
        return Step(
            _mean_of([step.log_probs for step in steps]),
            EnsembleState(tuple(step.state for step in steps)),
            torch.stack(attended).mean(0) if attended else None,
        )

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing; the logits are log-probabilities."""
        outputs = [member(features, captions) for member in self.decoders]
        penalties = [one.attention_penalty for one in outputs if one.attention_penalty is not None]
        return TeacherForcingOutput(
            _mean_of([one.logits.float().log_softmax(-1) for one in outputs]),
            torch.stack(penalties).mean() if penalties else None,
        )

    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        for member in self.decoders:
            member.extend_vocabulary(vocabulary_size)
        self.vocabulary_size = vocabulary_size

    @property
    def decoders(self) -> list[Decoder]:
        """The members, in the order of the configuration."""
        return list(self.members)  # type: ignore[arg-type]


def _mean_of(log_probs: Sequence[Tensor]) -> Tensor:
    """Log of the mean of probabilities, `[N, V]` each."""
    return torch.stack(list(log_probs)).logsumexp(0) - math.log(len(log_probs))
