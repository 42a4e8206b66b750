import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model, list_models

from captionloop.errors import EncoderError
from captionloop.preprocessing import VIEWS, WHOLE
from captionloop.vision.architectures import ARCHITECTURES, TORCHVISION
from captionloop.vision.encoder import ENCODER_FILE, Encoder, EncoderSpec


def small(**changes: object) -> EncoderSpec:
    return EncoderSpec(**{"architecture": "resnet10", "input_size": 32, "layer": "layer1", **changes})


def test_every_architecture_we_name_is_one_of_torchvisions() -> None:
    import torchvision

    assert set(TORCHVISION) <= set(list_models(module=torchvision.models))
    left_out = set(list_models(module=torchvision.models)) - set(TORCHVISION)
    assert all(name.startswith(("vit_", "maxvit", "googlenet", "inception")) for name in left_out)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("mobilenet_v2", (7, 7, 1280)), ("shufflenet_v2_x0_5", (7, 7, 1024)), ("squeezenet1_1", (13, 13, 512))],
)
def test_a_trunk_keeps_its_grid(architecture: str, shape: tuple[int, int, int]) -> None:
    encoder = Encoder.build(EncoderSpec(architecture=architecture))
    assert (encoder.rows, encoder.columns, encoder.channels) == shape
    assert encoder.module(torch.zeros(1, 3, 224, 224)).shape == (1, shape[0] * shape[1], shape[2])


def test_regions_are_in_reading_order(encoder: Encoder) -> None:
    images = torch.rand(1, 3, 32, 32)
    grid = encoder.module(images)[0]
    maps = encoder.module.trunk(images)[0]  # [channels, rows, columns]
    assert torch.equal(grid[1 * encoder.columns + 2], maps[:, 1, 2])


def test_an_earlier_layer_has_a_finer_grid() -> None:
    assert Encoder.build(small(layer="layer1")).rows == 2 * Encoder.build(small(layer="layer2")).rows
    inner = Encoder.build(EncoderSpec(architecture="mobilenet_v2", input_size=64, layer="features.3"))
    assert (inner.rows, inner.channels) == (16, 24)


def test_the_networks_output_up_to_a_layer_is_torchvisions() -> None:
    network = get_model("resnet18", weights=None).eval()
    encoder = Encoder.build(EncoderSpec(architecture="resnet18", input_size=64), network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    seen: list[torch.Tensor] = []
    network.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        network(images)
        grid = encoder.module(images)
    assert torch.allclose(grid, seen[0].flatten(2).transpose(1, 2))


def test_an_unknown_architecture_is_answered_with_names_that_come_close() -> None:
    with pytest.raises(EncoderError, match=r"unknown encoder 'resnt50'; did you mean resnet50"):
        EncoderSpec(architecture="resnt50")


@pytest.mark.parametrize("layer", ["layer9", "layer1.0.conv1", "features.3"])
def test_a_layer_that_is_not_there_is_named(layer: str) -> None:
    with pytest.raises(EncoderError, match="has no layer"):
        Encoder.build(small(layer=layer))


def test_photos_too_small_for_the_network_are_an_error() -> None:
    with pytest.raises(EncoderError, match="raise input_size"):
        Encoder.build(EncoderSpec(architecture="alexnet", input_size=32))


def test_weights_of_another_architecture_are_refused_with_the_names_that_differ(encoder: Encoder) -> None:
    with pytest.raises(EncoderError) as caught:
        Encoder.build(EncoderSpec(architecture="mobilenet_v2"), encoder.weights())
    assert "'mobilenet_v2'" in str(caught.value)
    assert "features.0.0.weight is missing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(encoder: Encoder) -> None:
    weights = {**encoder.weights(), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    expected = r"conv1.weight has shape \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)"
    with pytest.raises(EncoderError, match=expected):
        Encoder.build(encoder.spec, weights)


def test_unknown_weights_are_refused(encoder: Encoder) -> None:
    with pytest.raises(EncoderError, match=r"decoder\.weight is unknown"):
        Encoder.build(encoder.spec, {**encoder.weights(), "decoder.weight": torch.zeros(1)})


def test_a_classifier_and_later_layers_are_ignored(encoder: Encoder) -> None:
    weights = {**encoder.weights(), "fc.weight": torch.zeros(7, 512), "layer4.0.conv1.weight": torch.zeros(1)}
    assert Encoder.build(encoder.spec, weights).fingerprint == encoder.fingerprint


def test_random_weights_follow_the_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = Encoder.build(small(), seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert Encoder.build(small(), seed=3).fingerprint == first.fingerprint
    assert Encoder.build(small(), seed=4).fingerprint != first.fingerprint


def test_the_fingerprint_tells_apart_whatever_changes_the_numbers(encoder: Encoder) -> None:
    weights = encoder.weights()
    touched = {**weights, "bn1.running_mean": weights["bn1.running_mean"] + 1e-3}
    others = [
        Encoder.build(encoder.spec, touched),
        Encoder.build(small(input_size=64), weights),
        Encoder.build(small(precision="bfloat16"), weights),
    ]
    prints = {other.fingerprint for other in others}
    prints |= {encoder.fingerprint_of(view) for view in VIEWS.values()}
    assert len(prints) == len(others) + len(VIEWS)
    assert encoder.fingerprint_of(WHOLE) == encoder.fingerprint


def test_the_fingerprint_does_not_ask_how_many_batches_were_seen(encoder: Encoder) -> None:
    weights = {**encoder.weights(), "bn1.num_batches_tracked": torch.tensor(99)}
    assert Encoder.build(encoder.spec, weights).fingerprint == encoder.fingerprint


def test_an_encoder_survives_the_disk(tmp_path: Path, encoder: Encoder) -> None:
    encoder.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert loaded.spec == encoder.spec
    assert loaded.fingerprint == encoder.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [ENCODER_FILE]


def test_equal_encoders_are_equal_files(tmp_path: Path, encoder: Encoder) -> None:
    encoder.save(tmp_path / "a")
    Encoder.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a" / ENCODER_FILE).read_bytes() == (tmp_path / "b" / ENCODER_FILE).read_bytes()


def test_a_missing_cut_or_foreign_file_is_one_line(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(EncoderError, match="is missing"):
        Encoder.load(tmp_path)
    encoder.save(tmp_path)
    path = tmp_path / ENCODER_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EncoderError, match="damaged"):
        Encoder.load(tmp_path)
    save_file(load_file(encoder_file(tmp_path / "whole", encoder)), path)  # without the header's spec
    with pytest.raises(EncoderError, match="not an encoder") as caught:
        Encoder.load(tmp_path)
    assert "\n" not in str(caught.value)


def encoder_file(folder: Path, encoder: Encoder) -> Path:
    encoder.save(folder)
    return folder / ENCODER_FILE


def test_what_kedro_reads_for_every_command_does_not_import_torch() -> None:
    code = (
        "import sys, captionloop.pipelines.encoder_adaptation, captionloop.pipelines.feature_caching,"
        " captionloop.datasets.model_datasets; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("architecture", "channels"), [("resnet8", 192), ("resnet10", 256)])
def test_our_own_architectures_are_built_and_come_back(
    architecture: str, channels: int, tmp_path: Path
) -> None:
    assert architecture in ARCHITECTURES
    encoder = Encoder.build(small(architecture=architecture, layer="layer3"), seed=3)
    assert (encoder.rows, encoder.columns, encoder.channels) == (2, 2, channels)
    encoder.save(tmp_path)
    assert Encoder.load(tmp_path).fingerprint == encoder.fingerprint
