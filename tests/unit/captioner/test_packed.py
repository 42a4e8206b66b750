"""A packed decoder says what its original says in the same precision, and leaves the original alone."""

import pytest
import torch

from captionloop.captioner.architectures import ShowAndTellConfig, ShowAttendTellConfig, TransformerConfig
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.packed import packed, pays

WORDS, CHANNELS = 300, 48

needs_packing = pytest.mark.skipif(
    not pays("auto", torch.device("cpu")), reason="this CPU has no bfloat16 matrix units (AMX)"
)


@needs_packing
@pytest.mark.parametrize(
    "config",
    [
        ShowAttendTellConfig(embedding=32, hidden=32, attention_size=24),
        ShowAttendTellConfig(embedding=32, hidden=32, attention_size=24, attention="dot", tied=True),
        ShowAndTellConfig(embedding=32, hidden=32),
        TransformerConfig(width=48, heads=4, layers=2, feedforward=64),
    ],
)
def test_a_packed_decoder_is_the_decoder_in_bfloat16(config):
    torch.manual_seed(0)
    decoder = build_decoder(config, vocabulary_size=WORDS, channels=CHANNELS).eval()
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    grids, tokens = torch.rand(3, 6, CHANNELS), torch.tensor([5, 6, 7])
    faster = packed(decoder)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = decoder.step(tokens, decoder.begin(grids))
        found = faster.step(tokens, faster.begin(grids))
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=0.02, rtol=0.02)
    if expected.attention is not None:
        torch.testing.assert_close(found.attention, expected.attention, atol=0.02, rtol=0.02)
    assert all(torch.equal(weight, before[name]) for name, weight in decoder.state_dict().items())
    assert all(weight.requires_grad for weight in decoder.parameters())


def test_float32_is_never_packed():
    assert not pays("float32", torch.device("cpu"))
