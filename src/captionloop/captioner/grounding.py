"""New words begin where the encoder's classifier of concepts sees them.

A word that a handful of corrections has taught is soon said by heart, of the very photos that taught it. The
classifier that taught the encoder knows the word from the same photos, and better, as it has nothing else to
learn. In the deep output layer (Xu et al. 2015, equation 7) what a decoder sees raises the score of a word w
by E_w L_z z; so E_w is chosen such that E_w L_z points to where the classifier sees w. Hendricks et al. 2016
(arXiv 1511.05284) give new words the weights of known ones that are alike; here it is what the photos look
like that decides. Teaching goes on from there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captionloop.captioner.decoders import Decoder
from captionloop.captioner.decoders.ensemble import Ensemble
from captionloop.captioner.decoders.show_attend_tell import ShowAttendTell
from captionloop.language.tokenizer import CaptionTokenizer
from captionloop.vision.concepts import forms_of

_SMALLEST = 0.05
"""Directions that L_z shrinks to less than this, of its largest, are left out: they would blow up E_w."""


@dataclass(frozen=True)
class Grounding:
    """What the classifier looks for, and how much a new word makes of it.

    Attributes:
        concept_weights: columns `concept` and `weights`, the classifier's `[channels]` for each concept.
        strength: how far E_w L_z goes where the classifier points, times as far as for known words.
    """

    concept_weights: pd.DataFrame
    strength: float

    def digest(self) -> str:
        """SHA-256 of all of it."""
        table = self.concept_weights.to_json(orient="values", double_precision=15)
        return hashlib.sha256(f"{self.strength} {table}".encode()).hexdigest()


def ground_new_words(decoder: Decoder, tokenizer: CaptionTokenizer, known: int, grounding: Grounding) -> None:
    """Moves the words behind the first `known` to where the classifier sees them, as far as it knows them.

    Only `show_attend_tell` on the encoder's own features has the direct path from features to words that this
    needs; other decoders stay as they are.

    Args:
        decoder: its vocabulary has grown already.
        tokenizer: of that vocabulary.
        known: how many words there were before.
        grounding: see there.
    """
    if isinstance(decoder, Ensemble):
        for member in decoder.decoders:
            ground_new_words(member, tokenizer, known, grounding)
    elif isinstance(decoder, ShowAttendTell) and decoder.project is None:
        place = {word: token for token, word in enumerate(tokenizer.words)}
        directions = _directions(grounding.concept_weights)
        seen = {place[word]: row for word, row in directions.items() if word in place}
        _ground(decoder, seen, known, grounding.strength)


@torch.no_grad()
def _ground(decoder: ShowAttendTell, seen: Mapping[int, Tensor], known: int, strength: float) -> None:
    old, new = [token for token in seen if token < known], [token for token in seen if token >= known]
    if len(old) < 2 or not new:
        return
    words = decoder.words.vectors if decoder.words.scores is None else decoder.words.scores  # E, [V, E]
    looks = decoder.output_context.weight  # L_z, [E, C]
    directions = torch.stack([seen[token] for token in old])  # [W, C]
    average = directions.mean(0)
    directions = directions - average
    led = (words[old] - words[old].mean(0)) @ looks  # E_w L_z, [W, C]
    usual = (led * directions).sum() / directions.square().sum().clamp_min(1e-12)  # least squares
    wanted = usual.clamp_min(0) * (torch.stack([seen[token] for token in new]) - average)
    words[new] += strength * wanted @ torch.linalg.pinv(looks, rtol=_SMALLEST)


def _directions(concept_weights: pd.DataFrame) -> dict[str, Tensor]:
    """What the classifier looks for, by word `[C]`: the mean over its concepts, the word and its stem."""
    rows: dict[str, list[Tensor]] = {}
    for concept, weights in zip(concept_weights["concept"], concept_weights["weights"], strict=True):
        for word in forms_of(concept):
            rows.setdefault(word, []).append(torch.from_numpy(np.array(weights, np.float32)))
    return {word: torch.stack(several).mean(0) for word, several in rows.items()}
