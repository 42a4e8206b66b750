"""Several captioners as one: their opinions together (an ensemble), or the mean of their weights."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.ensembling import average_weights, build_ensemble
from captionloop.captioner.model_config import (
    DecodingOptions,
    EnsembleConfig,
    ShowAndTellConfig,
    ShowAttendTellConfig,
)
from captionloop.errors import ConfigurationError
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec

ATTENDING = ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8)
TELLING = ShowAndTellConfig(embedding=8, hidden=8)
DECODING = DecodingOptions(beam_width=2, alternatives=2, max_length=4)
CONFIGS = [ATTENDING, TELLING, EnsembleConfig(members=(ATTENDING, TELLING))]


def decoder(config, seed: int) -> Decoder:
    torch.manual_seed(seed)
    return build_decoder(config, vocabulary_size=12, channels=4).eval()


@pytest.mark.parametrize("config", CONFIGS, ids=["attending", "telling", "both"])
def test_every_weight_is_the_mean_of_theirs_and_they_stay_as_they_are(config):
    members = [decoder(config, seed) for seed in range(3)]
    before = [{name: weight.clone() for name, weight in one.state_dict().items()} for one in members]
    mean = average_weights(members)
    for name, weight in mean.state_dict().items():
        expected = sum(one[name].double() for one in before) / 3
        torch.testing.assert_close(weight.double(), expected, atol=1e-7, rtol=1e-6)
    for one, was in zip(members, before, strict=True):
        for name, weight in one.state_dict().items():
            assert torch.equal(weight, was[name])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 100), st.integers(1, 4))
def test_the_mean_of_the_same_decoder_says_the_same(seed, count):
    one = decoder(ATTENDING, seed)
    state = one.begin(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)))
    mean = average_weights([one] * count)
    words = torch.tensor([1, 2])
    torch.testing.assert_close(mean.step(words, state).log_probs, one.step(words, state).log_probs)


def test_what_is_done_to_the_mean_is_not_done_to_them():
    members = [decoder(ATTENDING, seed) for seed in range(2)]
    first = next(members[0].parameters()).clone()
    with torch.no_grad():
        for weight in average_weights(members).parameters():
            weight.zero_()
    assert torch.equal(next(members[0].parameters()), first)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)


def captioner(encoder, config, *, name="one", seed=0, text="a red ball and a blue box") -> Captioner:
    torch.manual_seed(seed)
    tokenizer = CaptionTokenizer.train([text])
    decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    return Captioner(name, encoder, decoder, tokenizer, lineage={"git_commit": name}, device="cpu")


def test_joined_captioners_caption_as_one_and_survive_a_bundle(encoder, tmp_path):
    members = [captioner(encoder, ATTENDING), captioner(encoder, TELLING, name="two", seed=1)]
    ensemble = build_ensemble(members, "both", DECODING)
    ensemble.save(tmp_path / "both")
    read = Captioner.load(tmp_path / "both", device="cpu")
    assert read.name == "both"
    assert read.decoder.config == EnsembleConfig(members=(ATTENDING, TELLING))
    assert read.lineage["members"] == [{"name": m.name, "lineage": m.lineage} for m in members]
    grids = torch.randn(3, encoder.regions, encoder.channels)
    captioned, read_captioned = ensemble.caption_grids(grids), read.caption_grids(grids)
    assert [one.best.text for one in captioned] == [one.best.text for one in read_captioned]
    assert all(word.attention is not None for one in captioned for word in one.best.words)


def test_members_of_an_ensemble_that_joins_another_count_once_each(encoder):
    first, second, third = (captioner(encoder, TELLING, name=str(n), seed=n) for n in range(3))
    ensemble = build_ensemble([build_ensemble([first, second], "two", DECODING), third], "three", DECODING)
    assert ensemble.decoder.config == EnsembleConfig(members=(TELLING,) * 3)


def test_what_does_not_go_together_is_refused_with_what_to_do(encoder):
    first = captioner(encoder, TELLING)
    with pytest.raises(ConfigurationError, match="two captioners"):
        build_ensemble([first], "alone", DECODING)
    with pytest.raises(ConfigurationError, match=r"different words.*vocabulary"):
        build_ensemble([first, captioner(encoder, TELLING, text="another thing")], "both", DECODING)
    other = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=1)
    with pytest.raises(ConfigurationError, match="different encoders"):
        build_ensemble([first, replace(first, encoder=other)], "both", DECODING)
