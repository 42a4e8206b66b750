from dataclasses import replace

import pytest
import torch

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.ensembling import build_ensemble
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
