"""The loss of self-critical training against gradients worked out by hand, on a decoder that is one table."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from captionloop.captioner.beam_search import EOS, FORBIDDEN_TOKENS
from captionloop.captioner.decoders.base import (
    Decoder,
    PackedCaptions,
    State,
    Step,
    TeacherForcingOutput,
    per_row,
)
from captionloop.captioner.decoding import sample
from captionloop.captioner.model_config import DecodingOptions
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.caption_data import Batches, CaptionedPhotos, CaptionGroup
from captionloop.training.caption_module import CaptionData, ValidationCider, caption_loss
from captionloop.training.self_critical import SelfCriticalModule, _sampling_logits
from captionloop.training.training_parameters import SelfCriticalParameters

BOS = CaptionTokenizer.BOS
WORDS = ("red", "green", "box")


@dataclass(frozen=True)
class Nothing(State):
    last: torch.Tensor = per_row()  # noqa: RUF009 - a field


class TableDecoder(Decoder):
    """What follows a word depends on that word alone: one row of logits for each."""

    attends = False

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size, self.channels = vocabulary_size, 1
        self.table = nn.Parameter(torch.randn(vocabulary_size, vocabulary_size))

    def begin(self, features):
        return Nothing(torch.zeros(len(features)))

    def step(self, tokens, state):
        return Step(self.table[tokens].log_softmax(-1), state, None)

    def forward(self, features, captions):
        return TeacherForcingOutput(self.table[captions.inputs], None)

    def extend_vocabulary(self, vocabulary_size):
        raise NotImplementedError


class Seen:
    fingerprint, rows, columns, channels, views = "0" * 32, 1, 1, 1, ("whole",)

    def means(self, sha256s, view="whole"):
        return np.ones((len(sha256s), 1), np.float32)


@pytest.fixture
def data() -> CaptionData:
    images = pd.DataFrame({"image_id": ["a", "b"], "sha256": ["0", "1"], "split": "train"})
    captions = pd.DataFrame(
        {
            "caption_id": ["1", "2", "3"],
            "image_id": ["a", "a", "b"],
            "text": ["red box", "green box red", "green green box box"],
            "weight": 1.0,
        }
    )
    tokenizer = CaptionTokenizer.train(captions["text"].tolist(), min_frequency=1)
    photos = CaptionedPhotos.from_tables(images, captions, "train", tokenizer, max_length=3)
    return CaptionData(photos, photos, Seen(), ValidationCider(photos, tokenizer))


def module_with(data: CaptionData, **settings) -> SelfCriticalModule:
    decoder = TableDecoder(len(data.validation_cider.tokenizer.words))
    parameters = SelfCriticalParameters(max_length=3, **settings)
    return SelfCriticalModule(decoder, data, parameters, best_weights=None)


def batch_of(data: CaptionData, *photos: int):
    shares = [CaptionGroup(photo, (0,), "whole") for photo in photos]
    return next(iter(Batches(data.train, data.features, [shares], grids=False)))


def by_hand(table: np.ndarray, drawn, advantages, *, temperature: float, max_length: int) -> np.ndarray:
    """d loss / d table of equation 6 of Rennie et al. 2017, with the forced end left out."""
    gradient, chosen = np.zeros_like(table), 0
    for tokens, advantage in zip(drawn, advantages, strict=True):
        sequences = [*tokens, EOS] if len(tokens) < max_length else list(tokens)
        for place, (before, word) in enumerate(zip([BOS, *sequences], sequences, strict=False)):
            allowed = np.ones(len(table), bool)
            allowed[FORBIDDEN_TOKENS] = False
            allowed[EOS] &= place > 0
            odds = np.where(allowed, np.exp(table[before] / temperature), 0)
            probability = odds / odds.sum()
            gradient[before] += advantage * (probability - np.eye(len(table))[word]) / temperature
            chosen += 1
    return gradient / chosen


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_the_gradient_is_that_of_what_was_chosen_at_the_temperature_it_was_drawn_at(
    data, monkeypatch, temperature
):
    module = module_with(data, samples=2, temperature=temperature)
    red, green, box = (data.validation_cider.tokenizer.words.index(word) for word in WORDS)
    drawn = [(red, box), (green, box, red), (box,), (red, red, red)]  # two of them were cut
    advantages = [0.7, -0.2, 1.3, 0.4]
    monkeypatch.setattr(module, "_draw", lambda _: (drawn, advantages))
    module.loss(batch_of(data, 0, 1)).backward()
    table = module.decoder.table
    expected = by_hand(
        table.detach().double().numpy(), drawn, advantages, temperature=temperature, max_length=3
    )
    np.testing.assert_allclose(table.grad.numpy(), expected, atol=1e-6)


def test_an_end_that_max_length_forces_teaches_nothing(data, monkeypatch):
    module = module_with(data, samples=1)
    red = data.validation_cider.tokenizer.words.index("red")
    monkeypatch.setattr(module, "_draw", lambda _: ([(red, red, red)], [1.0]))
    module.loss(batch_of(data, 0)).backward()
    alone = module.decoder.table.grad[red].clone()
    # What pushes the end is only that another word was chosen: three times out of three.
    probability = module.decoder.table[red].clone().detach()
    probability[FORBIDDEN_TOKENS] = -torch.inf
    torch.testing.assert_close(alone[EOS], 2 * probability.softmax(-1)[EOS] / 3)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_captions_are_drawn_with_the_probabilities_that_are_differentiated(data, temperature):
    decoder = TableDecoder(len(data.validation_cider.tokenizer.words))
    options = DecodingOptions(method="sample", temperature=temperature, max_length=3)
    (found,) = sample(decoder, torch.ones(1, 1, 1), options, each=20_000)
    first = torch.tensor([one.tokens[0] for one in found])
    captions = PackedCaptions.pack([[one] for one in range(5)], [0] * 5)
    logits = decoder.table[captions.inputs].detach()
    expected = _sampling_logits(logits, captions, temperature)[0].softmax(-1)
    drawn = torch.bincount(first, minlength=len(expected)) / len(first)
    torch.testing.assert_close(drawn, expected, atol=0.02, rtol=0)


def test_what_was_cut_is_scored_without_an_end_and_so_are_references_that_were(data):
    module = module_with(data)
    whole, cut = data.train.tokens[1][0], data.train.cut[1][0]
    assert cut and len(whole) == 3  # "green green box box", cut
    batch = replace(batch_of(data, 1), photos=(1, 1))
    same, stopped = module._rewards(batch, [whole, whole[:2]], 1)
    assert same > stopped
    ended, green = data.train.tokens[0][1], data.train.cut[0][1]
    assert len(ended) == 3 and not green  # "green box red" just fits


def test_the_end_of_a_reference_that_was_cut_is_not_taught():
    logits = torch.randn(5, 9, requires_grad=True)
    captions = PackedCaptions.pack([[4, 5, 6]], [0], cut=[True])
    caption_loss(logits[:4], captions, 0.1).backward()
    assert logits.grad[:3].abs().sum() > 0
    assert logits.grad[3].abs().sum() == 0
    logits.grad = None
    caption_loss(logits[:4], PackedCaptions.pack([[4, 5, 6]], [0]), 0.1).backward()
    assert logits.grad[3].abs().sum() > 0


def test_captions_know_whether_they_were_cut(data):
    assert data.train.cut == ((False, False), (True,))
    batch = batch_of(data, 0, 1)
    assert sorted(batch.captions.cut.tolist()) == [False, True]
    assert batch.captions.chosen.sum() == len(batch.captions.targets) - 1
