import gc
import weakref

import pytest
import torch
from decoders_for_tests import CONFIGS, REGIONS, loud_decoder, some_features
from torch.nn.functional import cross_entropy

from captionloop.captioner.beam_search import beam_search
from captionloop.captioner.decoders import Ensemble
from captionloop.captioner.decoders.base import BOS, PackedCaptions, RecurrentLinear, WordEmbedding
from captionloop.captioner.decoders.show_attend_tell import AdditiveAttention
from captionloop.captioner.model_config import DecodingOptions, EnsembleConfig

CAPTIONS = [[4, 5, 6], [7], [5, 5, 8, 5, 6], [4, 4], []]
IMAGE = [0, 1, 0, 2, 1]

every_decoder = pytest.mark.parametrize("name", CONFIGS)
# New words take a share of each member's probability, and so move the ensemble's mean.
every_single_decoder = pytest.mark.parametrize("name", [name for name in CONFIGS if name != "ensemble"])


@every_decoder
def test_teacher_forcing_says_what_step_by_step_says(name):
    decoder, features = loud_decoder(name), some_features(3)
    packed = PackedCaptions.pack(CAPTIONS, IMAGE)
    forced = packed.padded(decoder(features, packed).logits.log_softmax(-1))
    for row in range(packed.rows):
        state = decoder.begin(features[packed.image[row]][None])
        for time, word in enumerate([BOS, *CAPTIONS[packed.order[row]]]):
            step = decoder.step(torch.tensor([word]), state)
            state = step.state
            torch.testing.assert_close(step.log_probs[0], forced[row, time], atol=1e-5, rtol=1e-4)


@every_decoder
def test_log_probabilities_are_of_a_distribution(name):
    decoder = loud_decoder(name)
    state = decoder.begin(some_features(2))
    log_probs = decoder.step(torch.tensor([BOS, BOS]), state).log_probs
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2))


@every_decoder
def test_attention_is_a_distribution_over_regions_or_absent(name):
    decoder = loud_decoder(name)
    attention = decoder.step(torch.tensor([BOS, BOS]), decoder.begin(some_features(2))).attention
    assert (attention is not None) == decoder.attends
    if attention is not None:
        assert attention.shape == (2, REGIONS)
        torch.testing.assert_close(attention.sum(-1), torch.ones(2))


@every_decoder
def test_hypotheses_of_one_image_share_its_state_and_do_not_disturb_each_other(name):
    decoder, features = loud_decoder(name), some_features(2)
    alone = [decoder.step(torch.tensor([BOS]), decoder.begin(features[i : i + 1])).state for i in range(2)]
    both = decoder.begin(features)
    both = decoder.step(torch.tensor([BOS, BOS]), both).state.select(torch.tensor([0, 0, 1, 1]))
    words = torch.tensor([5, 6, 7, 4])
    together = decoder.step(words, both).log_probs
    for row, word in enumerate(words):
        expected = decoder.step(word[None], alone[row // 2]).log_probs[0]
        torch.testing.assert_close(together[row], expected, atol=1e-5, rtol=1e-4)


@every_decoder
def test_images_can_drop_out_of_a_state(name):
    decoder, features = loud_decoder(name), some_features(3)
    state = decoder.step(torch.tensor([BOS] * 3), decoder.begin(features)).state
    kept = state.select(torch.tensor([2, 0]), torch.tensor([2, 0]))
    words = torch.tensor([5, 6, 7])
    every = decoder.step(words, state).log_probs
    torch.testing.assert_close(
        decoder.step(words[[2, 0]], kept).log_probs, every[[2, 0]], atol=1e-5, rtol=1e-4
    )


@every_single_decoder
def test_growing_keeps_what_was_known(name):
    decoder, features = loud_decoder(name), some_features(3)
    packed = PackedCaptions.pack(CAPTIONS, IMAGE)
    before = decoder(features, packed).logits
    decoder.extend_vocabulary(12)
    after = decoder(features, packed).logits
    assert after.shape[-1] == 12
    torch.testing.assert_close(after[:, :9], before)
    assert decoder.vocabulary_size == 12


def test_an_ensemble_grows_by_growing_its_members():
    decoder = loud_decoder("ensemble")
    before = [loud.words.vectors.clone() for loud in decoder.members]
    decoder.extend_vocabulary(12)
    assert decoder.vocabulary_size == 12
    for member, vectors in zip(decoder.members, before, strict=True):
        assert member.vocabulary_size == 12
        torch.testing.assert_close(member.words.vectors[:9], vectors)


def test_an_ensemble_says_the_mean_of_its_members_probabilities_and_looks_where_they_look_on_average():
    decoder, features = loud_decoder("ensemble"), some_features(2)
    words = torch.tensor([BOS, BOS])
    together = decoder.step(words, decoder.begin(features))
    apart = [member.step(words, member.begin(features)) for member in decoder.members]
    mean = torch.stack([step.log_probs.exp() for step in apart]).mean(0)
    torch.testing.assert_close(together.log_probs.exp(), mean)
    attended = torch.stack([step.attention for step in apart if step.attention is not None])
    assert len(attended) == 2
    torch.testing.assert_close(together.attention, attended.mean(0))


def test_two_of_a_kind_are_one():
    alone, features = loud_decoder("show_attend_tell"), some_features(3)
    twice = Ensemble(EnsembleConfig(members=(alone.config, alone.config)), [alone, alone])
    options = DecodingOptions(beam_width=3, alternatives=3, max_length=6)
    for one, two in zip(
        beam_search(alone, features, options), beam_search(twice, features, options), strict=True
    ):
        assert [hypothesis.tokens for hypothesis in one] == [hypothesis.tokens for hypothesis in two]
        assert [hypothesis.score for hypothesis in one] == pytest.approx([h.score for h in two], abs=1e-4)


@every_decoder
def test_every_weight_learns(name):
    decoder = loud_decoder(name).train()
    packed = PackedCaptions.pack(CAPTIONS, IMAGE)
    output = decoder(some_features(3), packed)
    loss = cross_entropy(output.logits, packed.targets)
    if output.attention_penalty is not None:
        loss = loss + output.attention_penalty
    loss.backward()
    silent = [
        key for key, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not silent


def test_additive_attention_is_equation_4_of_xu_et_al():
    attention = AdditiveAttention(channels=7, size=6)
    grid, query = torch.randn(2, 5, 7), torch.randn(2, 3, 6)
    keys = attention.project(grid)
    expected = torch.tanh(keys[:, None] + query[:, :, None]) @ attention.weight
    torch.testing.assert_close(attention.scores(query, keys), expected)
    packed = PackedCaptions.pack([[4], [4], [4], [4], [4], [4]], [0, 0, 0, 1, 1, 1])
    over_time = attention.over_time(keys, packed)
    torch.testing.assert_close(over_time(query.flatten(0, 1)), expected.flatten(0, 1))


def test_the_gradients_written_by_hand_are_those_of_autograd():
    attention, layer = AdditiveAttention(channels=7, size=6), torch.nn.Linear(4, 6)
    grid, first = torch.randn(2, 5, 7), torch.randn(4, 4, requires_grad=True)
    packed = PackedCaptions.pack([[4, 4, 4], [4], [4, 4], [4]], [1, 0, 1, 1])

    def by_hand():
        scores, mapped = attention.over_time(attention.project(grid), packed), RecurrentLinear(layer)
        return lambda inputs: scores(mapped(inputs))

    def by_autograd():
        keys = attention.project(grid)
        return lambda inputs: (
            torch.tanh(keys[packed.image[: len(inputs)]] + layer(inputs)[:, None]) @ attention.weight
        )

    def gradients(function):
        inputs, loss = first, 0
        for running in packed.batch_sizes:
            scores = function(inputs[:running])
            inputs = scores[:, :4].tanh()
            loss = loss + scores.square().sum()
        weights = (first, layer.weight, layer.bias, attention.weight, attention.keys.weight)
        return torch.autograd.grad(loss, weights)

    for ours, theirs in zip(gradients(by_hand()), gradients(by_autograd()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_attention_that_sees_every_region_once_leaves_nothing_unattended():
    decoder = loud_decoder("show_attend_tell")
    with torch.no_grad():
        decoder.attention.weight.zero_()  # all regions alike
    packed = PackedCaptions.pack([[4] * (REGIONS - 1)], [0])  # R steps of 1 / R each
    attention_penalty = decoder(some_features(1), packed).attention_penalty
    torch.testing.assert_close(attention_penalty, torch.zeros(()), atol=1e-5, rtol=0)


def test_new_words_begin_as_the_average_word_and_as_unlikely_as_the_rarest():
    words = WordEmbedding(8, 4, tied=False)
    with torch.no_grad():
        words.bias.copy_(torch.arange(8.0))
    average = words.vectors[4:].mean(0).detach()
    words.extend_vocabulary(9)
    torch.testing.assert_close(words.vectors[8], average)
    assert words.bias[8] == 4


@every_decoder
def test_a_pass_of_teacher_forcing_leaves_nothing_behind(name):
    decoder, features = loud_decoder(name).train(), some_features(3)

    def one_pass() -> list[weakref.ref]:
        packed = PackedCaptions.pack(CAPTIONS, IMAGE)
        logits = decoder(features, packed).logits
        logits.sum().backward()
        return [weakref.ref(node) for node in graph_of(logits)]

    nodes = one_pass()
    gc.collect()
    assert [node() for node in nodes if node() is not None] == []


def graph_of(tensor):
    """Our own functions in the graph that made a tensor: those of PyTorch's cannot be watched."""
    found, waiting = {}, [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in found:
            continue
        found[id(node)] = node
        waiting += [further for further, _ in node.next_functions]
    return [node for node in found.values() if isinstance(node, torch.autograd.function.BackwardCFunction)]
