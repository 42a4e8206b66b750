"""A packed decoder says what its original says in the same precision, and leaves the original alone."""

import pytest
import torch

from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.decoding import prepack, prepack_dtype
from captionloop.captioner.model_config import (
    EnsembleConfig,
    ShowAndTellConfig,
    ShowAttendTellConfig,
    TransformerConfig,
)
from captionloop.hardware import bfloat16_works

WORDS, CHANNELS = 300, 48

CPU = torch.device("cpu")
needs_packing = pytest.mark.skipif(prepack_dtype("auto", CPU) is None, reason="this torch cannot pack")
bfloat16 = pytest.param(
    torch.bfloat16,
    0.02,
    marks=pytest.mark.skipif(not bfloat16_works("cpu"), reason="this processor cannot multiply in bfloat16"),
)


@needs_packing
@pytest.mark.parametrize(("number", "apart"), [(torch.float32, 1e-5), bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        ShowAttendTellConfig(embedding=32, hidden=32, attention_size=24),
        ShowAttendTellConfig(embedding=32, hidden=32, attention_size=24, attention="dot", tied=True),
        ShowAndTellConfig(embedding=32, hidden=32),
        TransformerConfig(width=48, heads=4, layers=2, feedforward=64),
        EnsembleConfig(members=(ShowAndTellConfig(embedding=32, hidden=32),) * 2),
    ],
)
def test_a_packed_decoder_is_the_decoder(config, number, apart):
    torch.manual_seed(0)
    decoder = build_decoder(config, vocabulary_size=WORDS, channels=CHANNELS).eval()
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    grids, tokens = torch.rand(3, 6, CHANNELS), torch.tensor([5, 6, 7])
    faster = prepack(decoder, number)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=number is torch.bfloat16):
        expected = decoder.step(tokens, decoder.begin(grids))
        found = faster.step(tokens, faster.begin(grids))
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=apart, rtol=apart)
    if expected.attention is not None:
        torch.testing.assert_close(found.attention, expected.attention, atol=apart, rtol=apart)
    assert all(torch.equal(weight, before[name]) for name, weight in decoder.state_dict().items())
    assert all(weight.requires_grad for weight in decoder.parameters())


@needs_packing
def test_a_search_is_packed_in_the_precision_that_was_asked_for():
    assert prepack_dtype("float32", CPU) is torch.float32
    assert prepack_dtype("bfloat16", CPU) is (torch.bfloat16 if bfloat16_works("cpu") else torch.float32)
    assert prepack_dtype("auto", torch.device("cuda")) is None
