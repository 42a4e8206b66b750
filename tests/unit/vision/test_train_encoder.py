from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from captionloop.corpus.scenes import SceneParameters, as_corpus, draw_scenes
from captionloop.datasets.mlflow_datasets import histories
from captionloop.errors import EncoderError, ImageError, TrainingError
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import SQUASHED
from captionloop.training import train_encoder
from captionloop.training.encoder_data import DecodedPhotos, augment, decode_photos
from captionloop.training.train_encoder import ConceptData, adapt, mean_average_precision
from captionloop.training.training_parameters import AdaptationParameters, AugmentationParameters
from captionloop.vision.encoder import Encoder, EncoderSpec

pytestmark = pytest.mark.integration

SIDE = 32
COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])


@pytest.fixture
def data(tmp_path: Path) -> ConceptData:
    """Photos of one colour each, and which colour it is."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    pixels = COLOURS[labels][:, None, None, :] + rng.integers(-20, 20, (40, SIDE, SIDE, 3))
    path = tmp_path / "pixels.bin"
    path.write_bytes(pixels.astype(np.uint8).tobytes())
    return ConceptData(DecodedPhotos(path, SIDE), np.eye(3, dtype=np.float32)[labels], train=32)


def parameters(**changes: object) -> AdaptationParameters:
    return AdaptationParameters(
        **{"epochs": 3, "batch_size": 8, "ema_decay": 0.5, "learning_rate": 3e-3, **changes}
    )


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"muon_learning_rate": 0.05},
        {"pooling": "log_sum_exp"},
        {"batch_norm": "frozen"},
        {"frozen": "maxpool"},
    ],
    ids=str,
)
def test_an_encoder_learns_the_concepts(
    data: ConceptData, encoder: Encoder, tmp_path: Path, how: dict[str, object]
) -> None:
    result = adapt(encoder, data, parameters(epochs=6, **how), tmp_path / "checkpoint.pt")
    curves = result.curves
    assert curves["train_loss"].iloc[-1] < 0.6 * curves["train_loss"].iloc[0]
    assert curves["val_map"].iloc[-1] > 0.9
    assert result.encoder.spec == encoder.spec
    assert result.encoder.fingerprint != encoder.fingerprint
    there = data.targets[data.train :] > 0
    assert result.logits.shape == there.shape
    assert mean_average_precision(result.logits, there) == pytest.approx(curves["val_map"].iloc[-1])


def test_without_validation_photos_nothing_is_said_of_any(
    data: ConceptData, encoder: Encoder, tmp_path: Path
) -> None:
    all_of_them = replace(data, train=len(data.targets))
    result = adapt(encoder, all_of_them, parameters(epochs=1), tmp_path / "checkpoint.pt")
    assert result.curves[["val_loss", "val_map"]].isna().all(axis=None)
    assert result.logits.shape == (0, 3)


def test_frozen_layers_keep_their_weights(data: ConceptData, encoder: Encoder, tmp_path: Path) -> None:
    result = adapt(encoder, data, parameters(epochs=1, frozen="maxpool"), tmp_path / "checkpoint.pt")
    before, after = encoder.weights(), result.encoder.weights()
    assert torch.equal(before["conv1.weight"], after["conv1.weight"])
    assert not torch.equal(before["layer1.0.conv1.weight"], after["layer1.0.conv1.weight"])


@pytest.mark.parametrize("epoch_of_the_kill", [1, 2])
def test_a_teaching_that_was_cut_short_ends_in_the_same_encoder(
    data: ConceptData,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch_of_the_kill: int,
) -> None:
    whole = adapt(encoder, data, parameters(), tmp_path / "whole.pt")
    save, path = train_encoder.write_file, tmp_path / "cut.pt"
    saved = 0

    def save_and_die(*arguments: object) -> None:
        nonlocal saved
        if saved == epoch_of_the_kill:
            raise KeyboardInterrupt
        save(*arguments)
        saved += 1

    with monkeypatch.context() as patched:
        patched.setattr(train_encoder, "write_file", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            adapt(encoder, data, parameters(), path)
    resumed = adapt(encoder, data, parameters(), path)
    assert resumed.encoder.fingerprint == whole.encoder.fingerprint
    np.testing.assert_array_equal(resumed.logits, whole.logits)
    timeless = ["epoch", "train_loss", "val_loss", "val_map", "learning_rate"]
    pd.testing.assert_frame_equal(resumed.curves[timeless], whole.curves[timeless])


def test_nothing_can_be_taught_behind_the_last_layer(
    data: ConceptData, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="freeze an earlier layer"):
        adapt(encoder, data, parameters(frozen="layer1"), tmp_path / "checkpoint.pt")
    with pytest.raises(EncoderError, match=r"has no layer .layer9."):
        adapt(encoder, data, parameters(frozen="layer9"), tmp_path / "checkpoint.pt")


def test_mean_average_precision_is_the_precision_at_each_hit() -> None:
    rng = np.random.default_rng(1)
    scores, present = rng.normal(size=(30, 5)).astype(np.float32), rng.random((30, 5)) < 0.2
    present[:, 4] = False  # a concept that does not occur is not counted
    precisions = []
    for concept in range(4):
        ranked = present[np.argsort(-scores[:, concept]), concept]
        at_hits = [ranked[: place + 1].mean() for place in range(30) if ranked[place]]
        precisions.append(np.mean(at_hits))
    expected = np.mean(precisions)
    assert mean_average_precision(scores, present) == pytest.approx(expected)


def test_augmentation_follows_its_seed() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    how = AugmentationParameters()
    first, again, other = (augment(pixels, 24, how, seed) for seed in ("0/1/2", "0/1/2", "0/2/2"))
    assert first.shape == (24, 24, 3)
    assert (first == again).all()
    assert (first != other).any()


def test_no_augmentation_is_the_photo_itself() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    still = AugmentationParameters(smallest_area=1, mirror=False, brightness=0, saturation=0)
    assert (augment(pixels, SIDE, still, "0") == pixels).all()


def test_photos_are_decoded_once(
    corpus: Callable[[int], tuple[pd.DataFrame, PhotoFolder]], tmp_path: Path
) -> None:
    images, photos = corpus(3)
    places = [(photos, uri) for uri in images["uri"]]
    first = decode_photos(places, SIDE, SQUASHED, tmp_path / "pixels.bin")
    photos.write("1.jpg", b"gone")
    assert (decode_photos(places, SIDE, SQUASHED, tmp_path / "pixels.bin")[2] == first[2]).all()
    with pytest.raises(ImageError, match=r"1\.jpg: "):
        decode_photos(places, SIDE, SQUASHED, tmp_path / "others.bin")
    assert not (tmp_path / "others.bin").exists()


def test_scenes_can_be_taught(tmp_path: Path) -> None:
    """The whole way, on a few drawn scenes: tables in, a taught encoder out."""
    from captionloop.training.train_encoder import train_encoder

    scenes = list(draw_scenes(SceneParameters(train=12, val=4, test=1, side=SIDE)))
    folder = PhotoFolder(str(tmp_path / "photos"))
    for scene in scenes:
        folder.write(scene.name, scene.photo)
    raw = as_corpus(scenes)
    images = raw.images.assign(sha256=raw.images["uri"])
    captions, photos = raw.captions.assign(weight=1.0), {"corpus": folder}
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=SIDE, layer="layer1"))
    trained = train_encoder(
        images, captions, ["the", "red"], photos, encoder, parameters(epochs=1), tmp_path / "bench"
    )
    assert len(trained.curves) == 1
    assert histories(trained.curves)["train_loss"][0]["step"] == 0
    other = parameters(epochs=1, seed=1)
    train_encoder(images, captions, ["the", "red"], photos, encoder, other, tmp_path / "bench")
    assert len(list((tmp_path / "bench").iterdir())) == 2  # one checkpoint, one file of pixels
    larger = parameters(epochs=1, input_size=SIDE * 2)
    resized = train_encoder(images, captions, ["the", "red"], photos, encoder, larger, tmp_path / "bench")
    assert resized.encoder.spec == encoder.spec
    assert resized.encoder.fingerprint not in {encoder.fingerprint, trained.encoder.fingerprint}


@pytest.mark.parametrize("muon", [None, 0.02])
def test_an_adaptation_that_diverges_stops_in_one_line_and_keeps_what_was_good(
    data: ConceptData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muon: float | None
) -> None:
    recipe = parameters(muon_learning_rate=muon)
    whole = adapt(encoder, data, recipe, tmp_path / "unbroken.pt").encoder
    losses, original = [], train_encoder._loss

    def diverges(logits, targets):
        losses.append(None)
        return original(logits, targets) * (torch.nan if len(losses) > 6 else 1)  # in the second epoch

    with monkeypatch.context() as patch:
        patch.setattr(train_encoder, "_loss", diverges)
        with pytest.raises(TrainingError, match=r"stopped in epoch 2: the loss is nan.*learning_rate"):
            adapt(encoder, data, recipe, tmp_path / "checkpoint.pt")
    resumed = adapt(encoder, data, recipe, tmp_path / "checkpoint.pt").encoder
    assert resumed.fingerprint == whole.fingerprint


def test_an_adaptations_checkpoint_that_holds_no_numbers_is_not_gone_on_from(
    data: ConceptData, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = adapt(encoder, data, parameters(epochs=1), tmp_path / "checkpoint.pt").encoder
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for weight in checkpoint["model"].values():
        if weight.is_floating_point():
            weight[:] = torch.nan
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    again = adapt(encoder, data, parameters(epochs=1), tmp_path / "checkpoint.pt").encoder
    assert "taught anew" in caplog.text
    assert again.fingerprint == whole.fingerprint


@pytest.mark.parametrize("torn", [b"", b"no checkpoint", None])
def test_an_adaptations_checkpoint_that_is_torn_is_not_gone_on_from(
    data: ConceptData,
    encoder: Encoder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    torn: bytes | None,
) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = adapt(encoder, data, parameters(epochs=1), path).encoder
    path.write_bytes(path.read_bytes()[:5000] if torn is None else torn)
    again = adapt(encoder, data, parameters(epochs=1), path).encoder
    assert "cannot be read" in caplog.text and "taught anew" in caplog.text
    assert again.fingerprint == whole.fingerprint


def test_decoded_photos_that_were_cut_off_are_decoded_again(
    corpus: Callable[[int], tuple[pd.DataFrame, PhotoFolder]], tmp_path: Path
) -> None:
    """Beyond the end of the file there would be whatever lies in memory."""
    images, photos = corpus(3)
    places, path = [(photos, uri) for uri in images["uri"]], tmp_path / "pixels.bin"
    last = decode_photos(places, SIDE, SQUASHED, path)[2]
    path.write_bytes(path.read_bytes()[:-1])
    assert (decode_photos(places, SIDE, SQUASHED, path)[2] == last).all()


def test_a_learning_rate_that_blows_an_encoder_up_is_told(
    data: ConceptData, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="Teaching the encoder stopped in epoch 1"):
        adapt(encoder, data, parameters(learning_rate=1e38), tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()
