"""How sure a captioner is: of a word, that it is right; of a caption, that a person would accept it."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

Points = tuple[float, ...]


def sureness(words: Sequence[float]) -> float:
    """How sure a caption is by the confidences of its words, 0 to 1: as sure as of all of them at once.

    It orders captions; how often people accept those of one sureness is what a `Calibration` knows.
    """
    return float(np.prod(words)) if words else 0.0


def mean_confidence(words: Sequence[float]) -> float:
    """The geometric mean of the confidences of a caption's words, 0 to 1."""
    return float(np.exp(np.mean(np.log(np.maximum(words, 1e-12))))) if words else 0.0


class Calibration(BaseModel):
    """Rising curves, linear between points: from what a decoder says of itself to what is true of it.

    Attributes:
        probability, confidence: from the probability of a word to how often such words are right.
        sureness, accepted: from the sureness of a caption to how often a person would accept such captions;
            empty where that was never asked, as in bundles before format 4.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    probability: Points
    confidence: Points
    sureness: Points = ()
    accepted: Points = ()

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.probability:
            raise ValueError("a calibration needs as many confidences as probabilities, and at least one")
        for given, meant in ((self.probability, self.confidence), (self.sureness, self.accepted)):
            if len(given) != len(meant):
                raise ValueError("a calibration needs as many confidences as probabilities, and at least one")
            if sorted(given) != list(given) or sorted(meant) != list(meant):
                raise ValueError("the points of a calibration must rise")
        return self

    @property
    def knows_captions(self) -> bool:
        """Whether it knows how often captions are accepted."""
        return bool(self.sureness)

    def __call__(self, probability: float) -> float:
        """The confidence in a word of this probability."""
        return float(np.interp(probability, self.probability, self.confidence))

    def of_caption(self, words: Sequence[float]) -> float:
        """The confidence in a caption by those in its words; their mean where nothing more is known."""
        if not self.knows_captions:
            return mean_confidence(words)
        return float(np.interp(sureness(words), self.sureness, self.accepted))
