import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from captionloop.errors import EncoderError
from captionloop.vision.encoder import Encoder, EncoderSpec, PretrainedWeights


def test_no_weights_means_random_ones() -> None:
    assert PretrainedWeights("none").tensors("resnet18") is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict_is_read_from_a_file(tmp_path: Path, encoder: Encoder, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(encoder.weights(), path)
    tensors = PretrainedWeights(str(path)).tensors("resnet10")
    assert Encoder.build(encoder.spec, tensors).fingerprint == encoder.fingerprint


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    "content", [b"", b"no weights", pickle.dumps(Malicious()), pickle.dumps({"epoch": 3})]
)
def test_anything_but_tensors_is_refused_and_never_run(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(EncoderError) as caught:
        PretrainedWeights(str(path)).tensors("resnet18")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_checkpoint_with_more_than_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(EncoderError, match="state_dict"):
        PretrainedWeights(str(tmp_path / "checkpoint.pth")).tensors("resnet18")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(EncoderError, match=r"no weights at /nowhere/w\.pth"):
        PretrainedWeights("/nowhere/w.pth").tensors("resnet18")


def test_unknown_names_are_answered_with_torchvisions() -> None:
    with pytest.raises(EncoderError, match="IMAGENET1K_V2"):
        PretrainedWeights("IMAGENET").tensors("resnet50")
    with pytest.raises(EncoderError, match="torchvision has no weights for 'resnet10'"):
        PretrainedWeights("DEFAULT").tensors("resnet10")
    with pytest.raises(EncoderError, match="unknown encoder"):
        PretrainedWeights("DEFAULT").tensors("vgg15")


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(EncoderError, match="could not be downloaded") as caught:
        PretrainedWeights("IMAGENET1K_V1").tensors("shufflenet_v2_x0_5")
    assert "\n" not in str(caught.value)


def test_published_weights_fit(imagenet_weights: Path) -> None:
    tensors = PretrainedWeights(str(imagenet_weights)).tensors("mobilenet_v2")
    encoder = Encoder.build(EncoderSpec(architecture="mobilenet_v2"), tensors)
    assert encoder.regions * encoder.channels == 49 * 1280


test_published_weights_fit = pytest.mark.flickr8k(test_published_weights_fit)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, encoder: Encoder, suffix: str) -> None:
    weights = {name: weight.clone() for name, weight in encoder.weights().items()}
    weights["conv1.weight"][0, 0, 0, 0] = torch.inf
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(weights, path)
    with pytest.raises(EncoderError, match=r"not finite \(1 of .* conv1.weight"):
        PretrainedWeights(str(path)).tensors("resnet10")
