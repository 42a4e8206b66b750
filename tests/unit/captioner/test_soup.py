import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.ensembling import average_weights
from captionloop.captioner.model_config import EnsembleConfig, ShowAndTellConfig, ShowAttendTellConfig

ATTENDING = ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8)
TELLING = ShowAndTellConfig(embedding=8, hidden=8)
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
