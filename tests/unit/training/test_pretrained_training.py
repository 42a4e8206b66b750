"""A pre-trained captioner is taught on by what teaches the others: tables, cached features, checkpoints."""

import pytest
import torch

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from tiny_pretrained import TowerFeatures, make_pretrained

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.ensembling import average_weights
from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained.pretrained_family import open_captioner
from captionloop.training.caption_module import CaptionModule
from captionloop.training.train_captioner import TrainingResult, train
from captionloop.training.training_parameters import PretrainedParameters

pytestmark = pytest.mark.integration

DECODING = DecodingOptions(beam_width=2, alternatives=2, max_length=20)


@pytest.fixture(scope="module", params=[LoraOptions(rank=4), None], ids=["lora", "all"])
def start(request, corpus, tmp_path_factory) -> Captioner:
    texts = corpus.captions["text"].tolist()
    folder = make_pretrained("vision-encoder-decoder", tmp_path_factory.mktemp("model") / "m", texts=texts)
    return open_captioner(str(folder), "start", DECODING, lora=request.param)


def trained(start: Captioner, corpus, folder, epochs: int = 3) -> TrainingResult:
    parameters = PretrainedParameters(
        epochs=epochs, batch_size=24, learning_rate=0.02, ema_decay=0.5, precision="float32",
        dropout=0.1, decoding=DECODING, processes={"accelerator": "cpu"},
    ).of_training(start.decoder.config)  # fmt: skip
    features = TowerFeatures(corpus.features._grids, start.encoder.fingerprint)
    return train(corpus.images, corpus.captions, features, parameters, checkpoints=folder, start=start)


class Killed(BaseException):
    pass


def test_it_learns_and_killed_it_ends_in_the_same_weights(start, corpus, tmp_path, monkeypatch):
    whole = trained(start, corpus, tmp_path / "whole")
    losses = whole.curves.to_frame()["val_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    steps, original = [], CaptionModule.training_step

    def dies(self, batch, number):
        steps.append(number)
        if len(steps) == 8:
            raise Killed
        return original(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(CaptionModule, "training_step", dies)
        with pytest.raises(Killed):
            trained(start, corpus, tmp_path / "killed")
    torch.manual_seed(123)
    resumed = trained(start, corpus, tmp_path / "killed")
    one, other = whole.decoder.state_dict(), resumed.decoder.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_holds_what_learns_and_nothing_of_the_base(start, corpus, tmp_path):
    result = trained(start, corpus, tmp_path / "work", epochs=1)
    learnt = {name for name, weight in result.decoder.named_parameters() if weight.requires_grad}
    assert set(result.decoder.state_dict()) == learnt
    if start.decoder.config.lora is not None:
        size = (tmp_path / "work/best.safetensors").stat().st_size
        assert size < 0.2 * sum(4 * weight.numel() for weight in result.decoder.parameters())


def test_the_mean_of_several_is_one_of_their_kind(start, corpus, tmp_path):
    result = trained(start, corpus, tmp_path / "work", epochs=1)
    mean = average_weights([start.decoder, result.decoder])
    for name, value in mean.state_dict().items():
        expected = (start.decoder.state_dict()[name] + result.decoder.state_dict()[name]) / 2
        torch.testing.assert_close(value, expected)
    frozen = [weight for weight in mean.parameters() if not weight.requires_grad]
    shared = {weight.data_ptr() for weight in start.decoder.parameters()}
    assert all(weight.data_ptr() in shared for weight in frozen)
