"""The small model that begins with random weights; what has learnt is the base of what learns by ratings."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained.pretrained_family import open_captioner

TEXTS = ["a red ball on the grass", "two boats on the lake at night", "a cup next to a box"]
DECODING = DecodingOptions(beam_width=2, alternatives=1, max_length=6)


@pytest.fixture
def benchmark(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root)
    return importlib.import_module("benchmarks.model_from_nothing")


@pytest.fixture
def random_model(benchmark: ModuleType, tmp_path: Path) -> str:
    benchmark.make_model(TEXTS, tmp_path / "random")
    return str(tmp_path / "random")


def learnt(captioner: Captioner, folder: Path) -> Path:
    """The captioner with other weights, as if it had learnt something; in a bundle."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in captioner.decoder.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    captioner.save(folder)
    return folder


def test_what_was_taught_as_a_whole_is_a_base_that_says_the_same(benchmark, random_model, tmp_path):
    taught = open_captioner(random_model, "taught", DECODING, lora=None)
    bundle = learnt(taught, tmp_path / "bundle")
    benchmark.write_taught(bundle, tmp_path / "model")
    again = open_captioner(str(tmp_path / "model"), "again", DECODING, lora=LoraOptions(rank=2))

    features = torch.randn(3, taught.encoder.columns, taught.encoder.channels)
    one, other = (each.decoder.eval() for each in (taught, again))
    said, repeated = (each.step(torch.full((3,), 1), each.begin(features)).log_probs for each in (one, other))
    assert torch.allclose(said, repeated, atol=1e-5)
    before = open_captioner(random_model, "before", DECODING, lora=None).decoder.eval()
    assert not torch.allclose(said, before.step(torch.full((3,), 1), before.begin(features)).log_probs)
    assert again.tokenizer.words == taught.tokenizer.words
    assert all("lora_" in name for name in other.state_dict())


def test_an_adapted_one_is_refused(benchmark, random_model, tmp_path):
    adapted = open_captioner(random_model, "adapted", DECODING, lora=LoraOptions(rank=2))
    bundle = learnt(adapted, tmp_path / "bundle")
    with pytest.raises(SystemExit, match="lora: null"):
        benchmark.write_taught(bundle, tmp_path / "model")
