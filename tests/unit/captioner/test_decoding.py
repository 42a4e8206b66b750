import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from decoders_for_tests import CONFIGS, REGIONS, loud_decoder, some_features
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.captioner.beam_search import beam_search, largest
from captionloop.captioner.decoders.base import PackedCaptions, State, Step, per_row
from captionloop.captioner.decoding import decode, greedy, sample
from captionloop.captioner.model_config import DecodingOptions
from captionloop.tokenizer import CaptionTokenizer

EOS, BOS = CaptionTokenizer.EOS, CaptionTokenizer.BOS
WORDS = (4, 5, 6)
every_decoder = pytest.mark.parametrize("name", CONFIGS)


def log_probabilities(decoder: Any, features: torch.Tensor, captions: list[tuple[int, ...]]) -> list[float]:
    """Of whole captions of one image, the end counted, by teacher forcing."""
    packed = PackedCaptions.pack(captions, [0] * len(captions))
    with torch.no_grad():
        log_probs = decoder(features[None], packed).logits.log_softmax(-1)
    each = log_probs.gather(1, packed.targets[:, None])[:, 0]
    rows = torch.zeros(len(captions)).index_add_(0, packed.row, each)
    return torch.empty_like(rows).index_copy_(0, packed.order, rows).tolist()


@dataclass(frozen=True)
class ParrotState(State):
    words: torch.Tensor = per_row()  # noqa: RUF009


class Parrot:
    """Says the same about every image, whatever was said before: these log-probabilities, `[V]`."""

    def __init__(self, log_probs: list[float]) -> None:
        self.log_probs = torch.tensor(log_probs)

    def begin(self, features: torch.Tensor) -> ParrotState:
        return ParrotState(torch.zeros(features.shape[0]))

    def step(self, tokens: torch.Tensor, state: ParrotState) -> Step:
        return Step(self.log_probs.expand(len(tokens), -1).clone(), state, None)


@every_decoder
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_the_best_of_all_captions(name, penalty):
    decoder, features = loud_decoder(name, vocabulary_size=7), some_features(2)
    options = DecodingOptions(beam_width=50, alternatives=4, max_length=3, length_penalty=penalty)
    everything = [words for length in (1, 2, 3) for words in itertools.product(WORDS, repeat=length)]
    for image, found in enumerate(beam_search(decoder, features, options)):
        sums = log_probabilities(decoder, features[image], everything)
        scores = {w: s / (len(w) + 1) ** penalty for w, s in zip(everything, sums, strict=True)}
        best = sorted(everything, key=lambda words: -scores[words])[:4]
        assert [hypothesis.tokens for hypothesis in found] == best
        np.testing.assert_allclose([h.score for h in found], [scores[w] for w in best], atol=1e-4)


@every_decoder
@pytest.mark.parametrize("width", [1, 3])
def test_log_probabilities_are_those_of_the_whole_caption(name, width):
    decoder, features = loud_decoder(name), some_features(4)
    options = DecodingOptions(beam_width=width, alternatives=width, max_length=6)
    for image, found in enumerate(decode(decoder, features, options)):
        expected = log_probabilities(decoder, features[image], [one.tokens for one in found])
        assert [one.log_probability for one in found] == pytest.approx(expected, abs=1e-4)


@every_decoder
def test_a_beam_of_width_one_is_greedy(name):
    decoder, features = loud_decoder(name), some_features(6)
    options = DecodingOptions(beam_width=1, max_length=8)
    beam, best = beam_search(decoder, features, options), greedy(decoder, features, options)
    assert [one[0].tokens for one in beam] == [one[0].tokens for one in best]


@every_decoder
def test_images_captioned_together_get_what_they_get_alone_in_any_order(name):
    decoder, features = loud_decoder(name), some_features(5)
    options = DecodingOptions(beam_width=3, alternatives=2, max_length=7)
    together = beam_search(decoder, features, options)
    backwards = beam_search(decoder, features.flip(0), options)[::-1]
    for image in range(5):
        (alone,) = beam_search(decoder, features[image : image + 1], options)
        for one, many, reverse in zip(alone, together[image], backwards[image], strict=True):
            assert one.tokens == many.tokens == reverse.tokens
            if one.attention is not None:
                np.testing.assert_allclose(one.attention, many.attention, atol=1e-5)


@every_decoder
def test_every_word_has_a_probability_and_where_the_decoder_attends_a_place(name):
    decoder = loud_decoder(name)
    for found in beam_search(decoder, some_features(2), DecodingOptions(alternatives=5, max_length=6)):
        for hypothesis in found:
            assert hypothesis.token_log_probs.shape == (len(hypothesis.tokens) + 1,)
            assert (hypothesis.attention is not None) == decoder.attends
            if hypothesis.attention is not None:
                assert hypothesis.attention.shape == (len(hypothesis.tokens), REGIONS)
                np.testing.assert_allclose(hypothesis.attention.sum(1), 1, atol=1e-5)


def test_attention_is_of_the_step_that_said_the_word():
    decoder, features = loud_decoder("show_attend_tell"), some_features(2)
    for image, found in enumerate(beam_search(decoder, features, DecodingOptions(max_length=5))):
        state = decoder.begin(features[image][None])
        for before, seen in zip((BOS, *found[0].tokens), found[0].attention, strict=False):
            step = decoder.step(torch.tensor([before]), state)
            state = step.state
            np.testing.assert_allclose(step.attention[0].detach(), seen, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -1.0, -30.0]), min_size=6, max_size=6
    ),
    st.integers(1, 3),
    st.sampled_from(["beam", "sample"]),
)
def test_a_caption_is_never_empty_whatever_the_model_says(log_probs, width, method):
    options = DecodingOptions(beam_width=width, max_length=4, method=method, alternatives=width)
    for found in decode(Parrot(log_probs), some_features(2), options):
        assert found
        for hypothesis in found:
            assert 1 <= len(hypothesis.tokens) <= 4
            assert set(hypothesis.tokens) <= {4, 5}
            assert np.isfinite(hypothesis.log_probability)


@pytest.mark.parametrize("width", [1, 4])
def test_lengths_are_kept(width):
    at_once = Parrot([-9, -9, -0.1, -9, -3.0, -3.1])
    options = DecodingOptions(beam_width=width, min_length=3, max_length=5)
    assert {len(h.tokens) for found in decode(at_once, some_features(1), options) for h in found} == {3}
    never = Parrot([-9, -9, -90, -9, -0.7, -0.7])
    assert {len(h.tokens) for found in decode(never, some_features(1), options) for h in found} == {5}


def test_unknown_words_are_never_said():
    likes_unknown = Parrot([-9, -9, -2.0, -0.1, -3.0, -3.0])
    for found in decode(likes_unknown, some_features(1), DecodingOptions()):
        assert all(CaptionTokenizer.UNK not in hypothesis.tokens for hypothesis in found)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_occurs_twice_where_that_is_asked_for(width, n):
    babbler = Parrot([-9, -9, -6.0, -9, -0.5, -1.5, -2.5, -3.0, -3.5])
    options = DecodingOptions(beam_width=width, no_repeat_ngram=n, max_length=5, min_length=4)
    for hypothesis in decode(babbler, some_features(1), options)[0]:
        grams = list(zip(*(hypothesis.tokens[i:] for i in range(n)), strict=False))
        assert len(grams) == len(set(grams))


def test_repeats_are_allowed_when_nothing_else_is_left():
    one_word = Parrot([-9, -9, -6.0, -9, -0.5])
    options = DecodingOptions(no_repeat_ngram=1, min_length=3, max_length=3)
    assert decode(one_word, some_features(1), options)[0][0].tokens == (4, 4, 4)


def test_samples_are_repeatable_by_their_seed_and_differ_between_seeds():
    decoder, features = loud_decoder("show_attend_tell"), some_features(4)

    def drawn(seed: int) -> list[tuple[int, ...]]:
        found = sample(decoder, features, DecodingOptions(method="sample", seed=seed), each=5)
        return [hypothesis.tokens for of_image in found for hypothesis in of_image]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-3}])
def test_sampling_cut_to_the_likeliest_word_is_greedy(cut):
    decoder, features = loud_decoder("transformer"), some_features(4)
    drawn = sample(decoder, features, DecodingOptions(method="sample", max_length=6, **cut))
    best = greedy(decoder, features, DecodingOptions(beam_width=1, max_length=6))
    assert [one[0].tokens for one in drawn] == [one[0].tokens for one in best]


def test_words_are_drawn_as_often_as_they_are_likely():
    model = Parrot(torch.tensor([0, 0, 0.5, 0, 0.3, 0.2]).log().tolist())
    found = sample(model, some_features(1), DecodingOptions(method="sample", max_length=1), each=4000)[0]
    share = np.mean([hypothesis.tokens == (4,) for hypothesis in found])
    assert share == pytest.approx(0.6, abs=0.04)  # the end cannot be the first: 0.3 of 0.5


@given(st.integers(1, 12), st.integers(4, 900), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_largest_by_blocks_are_the_largest(count, columns, seed):
    scores = torch.randn(3, columns, generator=torch.Generator().manual_seed(seed))
    values, places = largest(scores, count)
    expected = scores.topk(min(count, columns))
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


def test_lengths_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="min_length"):
        DecodingOptions(min_length=5, max_length=4)
