import sys
from pathlib import Path

import numpy as np
import pytest
import timm_for_tests  # noqa: F401 - registers its models
import torch
from safetensors.torch import save_file

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import ShowAttendTellConfig
from captionloop.errors import ConfigurationError, EncoderError
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.encoder_data import DecodedPhotos
from captionloop.training.train_encoder import ConceptData, adapt
from captionloop.training.training_parameters import AdaptationParameters, EncoderParameters
from captionloop.vision import runtimes
from captionloop.vision.encoder import Encoder, EncoderSpec, PretrainedWeights
from captionloop.vision.runtimes import make_runtime
from captionloop.vision.timm_models import timm_licence

from .conftest import picture

pytestmark = pytest.mark.integration

FAMILIES = {
    "timm/tiny_registers.lvd": (4, 16),
    "timm/tiny_siglip.webli": (4, 16),
    "timm/tiny_swin.in1k": (4, 16),
    "timm/test_resnet": (1, 96),
    "timm/test_convnext": (1, 64),
    "timm/test_efficientnet": (1, 256),
}
"""Side of the grid at 32 px, and channels."""


def encoder_of(name: str, **options: object) -> Encoder:
    parameters = EncoderParameters(architecture=name, input_size=32, precision="float32")
    return Encoder.build(parameters.spec().model_copy(update=options), seed=3)


def photos(count: int = 3, side: int = 32) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_grid_the_same_each_time(name: str) -> None:
    encoder, again = encoder_of(name), encoder_of(name)
    side, channels = FAMILIES[name]
    assert (encoder.rows, encoder.columns, encoder.channels) == (side, side, channels)
    assert encoder.fingerprint == again.fingerprint
    runtime = make_runtime(encoder, device="cpu", engine="torch")
    grids = runtime.encode(photos())
    assert grids.shape == (3, side * side, channels)
    assert (grids == make_runtime(again, device="cpu", engine="torch").encode(photos())).all()
    assert np.abs(grids[:1].astype(np.float32) - runtime.encode(photos()[:1])).max() < 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_computes_what_torch_computes(name: str) -> None:
    encoder = encoder_of(name)
    expected = make_runtime(encoder, device="cpu", engine="torch").encode(photos()).astype(np.float32)
    runtime = make_runtime(encoder, device="cpu")
    assert runtime.name.startswith("OpenVINO" if runtimes.has_avx512() else "PyTorch")
    assert np.abs(runtime.encode(photos()) - expected).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["timm/tiny_registers.lvd", "timm/tiny_siglip.webli", "timm/tiny_swin.in1k"])
def test_places_of_the_grid_are_places_of_the_photo(name: str) -> None:
    encoder = encoder_of(name)
    encode = make_runtime(encoder, device="cpu", engine="torch").encode
    grey = np.full((1, 32, 32, 3), 127, np.uint8)
    marked = grey.copy()
    marked[:, 8:16, 24:32] = 255  # the patch in row 1, column 3
    change = np.abs(encode(marked).astype(np.float32) - encode(grey)).sum(-1).reshape(encoder.rows, -1)
    assert np.unravel_index(change.argmax(), change.shape) == (1, 3)


def test_the_class_token_is_the_mean_of_the_grid_and_registers_are_left_out() -> None:
    encoder = encoder_of("timm/tiny_registers.lvd")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = encoder.module.get_submodule("trunk.network").forward_features(images)
        grid = encoder.module(images)
    assert tokens.shape == (2, 1 + 4 + 16, 16)
    torch.testing.assert_close(grid.mean(1), tokens[:, 0])
    patches = tokens[:, 5:]
    torch.testing.assert_close(grid - grid.mean(1, keepdim=True), patches - patches.mean(1, keepdim=True))


def test_without_a_class_token_the_grid_is_what_the_model_gives() -> None:
    encoder = encoder_of("timm/tiny_siglip.webli")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = encoder.module.get_submodule("trunk.network").forward_features(images)
        torch.testing.assert_close(encoder.module(images), expected)
    assert not any("attn_pool" in name for name in encoder.weights())


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("timm/tiny_registers.lvd", "blocks.0", (4, 16)),
        ("timm/tiny_swin.in1k", "layers.0", (8, 8)),
        ("timm/test_resnet", "layer2", (4, 48)),
    ],
)
def test_an_earlier_layer_can_be_the_last(name: str, layer: str, shape: tuple[int, int]) -> None:
    encoder = encoder_of(name, layer=layer)
    assert (encoder.rows, encoder.channels) == shape
    with pytest.raises(EncoderError, match=f"no layer 'fifth'; here it has .*{layer}"):
        encoder_of(name, layer="fifth")


def test_position_embeddings_are_resampled_for_another_size_and_back() -> None:
    encoder = encoder_of("timm/tiny_registers.lvd")
    larger = encoder.respecified(input_size=64)
    assert (larger.rows, larger.columns) == (8, 8)
    before, after = encoder.weights()["pos_embed"], larger.weights()["pos_embed"]
    assert after.shape == (1, 64, 16)
    assert after[0, 0].sub(before[0, 0]).abs().max() < before.abs().max()
    assert float(after.mean()) == pytest.approx(float(before.mean()), abs=2e-3)
    assert larger.respecified(input_size=32).weights()["pos_embed"].shape == before.shape
    assert len({encoder.fingerprint, larger.fingerprint}) == 2


def test_a_model_that_cannot_be_fed_another_size_says_which_one_it_can(tmp_path: Path) -> None:
    encoder = encoder_of("timm/test_vit_relpos", input_size=160)
    network = type(encoder.module.get_submodule("trunk.network"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(network, "set_input_size")
        with pytest.raises(EncoderError, match="cannot be fed another size than 160 px; set input_size"):
            encoder.respecified(input_size=64)


def test_a_size_that_would_cut_patches_off_is_refused_with_those_that_do_not() -> None:
    with pytest.raises(EncoderError, match=r"no multiple of the patches .*\(8 px\); take 32 or 40"):
        encoder_of("timm/tiny_registers.lvd", input_size=36)


@pytest.mark.parametrize("name", ["timm/tiny_registers.lvd", "timm/tiny_swin.in1k", "timm/test_resnet"])
def test_an_encoder_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    encoder = encoder_of(name, licence="apache-2.0")
    encoder.save(tmp_path)
    read = Encoder.load(tmp_path)
    assert read == encoder
    assert read.spec == encoder.spec
    assert encoder.fingerprint == encoder_of(name).fingerprint  # a licence changes no number


def test_what_timm_says_of_its_weights_is_what_photos_become() -> None:
    spec = EncoderParameters(architecture="timm/tiny_swin.in1k").spec()
    fed = spec.preprocessing
    assert (spec.input_size, fed.crop, fed.share, fed.interpolation) == (32, "center", 0.9, "bicubic")
    assert EncoderParameters(architecture="timm/tiny_siglip.webli").spec().preprocessing.mean == (0.5,) * 3
    whole = EncoderParameters(architecture="timm/tiny_swin.in1k", crop="whole").spec()
    assert (whole.preprocessing.crop, whole.preprocessing.share) == ("squash", 1.0)
    prints = {
        Encoder.build(each, encoder_of("timm/tiny_swin.in1k").weights()).fingerprint for each in (spec, whole)
    }
    assert len(prints) == 2
    with pytest.raises(EncoderError, match="border"):
        EncoderParameters(architecture="timm/tiny_border.x").spec()
    assert EncoderParameters(architecture="timm/tiny_border.x", crop="whole").spec().input_size == 32


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_file_with_timms_names(tmp_path: Path, suffix: str) -> None:
    import timm

    path = tmp_path / f"weights{suffix}"
    whole = timm.create_model("tiny_siglip")  # with its head, as timm saves it
    (torch.save if suffix == ".pth" else save_file)(whole.state_dict(), path)
    weights = PretrainedWeights(str(path))
    spec = EncoderParameters(architecture="timm/tiny_siglip.webli").spec()
    encoder = Encoder.build(spec, weights.tensors(spec.architecture))
    torch.testing.assert_close(encoder.weights()["pos_embed"], whole.state_dict()["pos_embed"])
    larger = spec.model_copy(update={"input_size": 64})
    assert Encoder.build(larger, weights.tensors(spec.architecture)).rows == 8
    with pytest.raises(EncoderError, match="do not belong to encoder 'timm/test_resnet': conv1"):
        Encoder.build(
            EncoderParameters(architecture="timm/test_resnet").spec(), weights.tensors("timm/test_resnet")
        )


def test_weights_of_the_hub_that_cannot_be_had_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in ("DEFAULT", "DEFAULT@0123456789abcdef"):
        with pytest.raises(EncoderError, match="could not be downloaded") as caught:
            PretrainedWeights(source).tensors("timm/test_resnet")
        assert "\n" not in str(caught.value)
    assert PretrainedWeights("none").tensors("timm/test_resnet") is None


def test_the_licence_is_told_of_weights_that_were_taken_and_of_no_others() -> None:
    assert timm_licence("timm/tiny_registers.lvd") == "apache-2.0"
    assert PretrainedWeights("DEFAULT").licence("timm/tiny_registers.lvd") == "apache-2.0"
    assert PretrainedWeights("none").licence("timm/tiny_registers.lvd") is None
    assert PretrainedWeights("DEFAULT").licence("resnet50") is None


def test_a_name_that_timm_has_not_is_answered_with_those_that_come_close() -> None:
    with pytest.raises(EncoderError, match=r"did you mean .*timm/convnext_tiny"):
        EncoderSpec(architecture="timm/convnext_tinny")
    with pytest.raises(EncoderError, match=r"did you mean timm/tiny_swin"):
        EncoderSpec(architecture="timm/tiny_swin.in22k")


def test_a_model_without_places_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"'timm/crossvit_tiny_240'.* no grid of places"):
        Encoder.build(EncoderSpec(architecture="timm/crossvit_tiny_240", input_size=240))


def test_without_the_extra_whatever_asks_for_timm_is_refused_in_a_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioner_with(encoder_of("timm/tiny_swin.in1k"))
    captioner.save(tmp_path / "bundle")
    monkeypatch.setitem(sys.modules, "timm", None)
    for call in (
        lambda: EncoderParameters(architecture="timm/tiny_swin.in1k"),
        lambda: Encoder.load(tmp_path / "bundle"),
        lambda: Captioner.load(tmp_path / "bundle"),
    ):
        with pytest.raises(ConfigurationError, match=r"install captionloop\[timm\]") as caught:
            call()
        assert "\n" not in str(caught.value)


def captioner_with(encoder: Encoder) -> Captioner:
    torch.manual_seed(0)
    tokenizer = CaptionTokenizer.train(["a red ball and a blue box", "the man's dog"])
    decoder = build_decoder(
        ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8),
        vocabulary_size=tokenizer.vocabulary_size,
        channels=encoder.channels,
    )
    return Captioner("little", encoder, decoder, tokenizer, device="cpu")


def test_a_bundle_with_such_an_encoder_captions_as_before_and_says_where_it_looked(tmp_path: Path) -> None:
    captioner = captioner_with(encoder_of("timm/tiny_registers.lvd"))
    captioner.save(tmp_path / "bundle")
    read = Captioner.load(tmp_path / "bundle", device="cpu")
    data = [picture(1, 200, 120), picture(2, 90, 120)]
    captioned = captioner.caption(data)
    assert [one.best.text for one in read.caption(data)] == [one.best.text for one in captioned]
    attention = captioned[0].best.words[0].attention  # of 200 x 120 px the middle 120 are seen
    assert attention.shape == (4, 7)
    assert (attention[:, 0] == 0).all()
    assert attention.sum() == pytest.approx(1, abs=1e-4)
    (seen,) = captioner.caption_arrays(captioner.prepare(data[0])[None])
    assert seen.best.words[0].attention.shape == (4, 4)


def test_what_openvino_does_not_convert_is_computed_by_torch_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(encoder: Encoder) -> None:
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setattr(runtimes, "has_avx512", lambda: True)
    monkeypatch.setattr(runtimes, "_graph", refuses)
    encoder = encoder_of("timm/tiny_swin.in1k")
    assert make_runtime(encoder, device="cpu").name.startswith("PyTorch")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "timm/tiny_swin.in1k" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("timm/tiny_registers.lvd", {"frozen": "blocks.0"}),
        ("timm/tiny_registers.lvd", {"input_size": 64}),
        ("timm/test_resnet", {"batch_norm": "frozen"}),
        ("timm/tiny_swin.in1k", {"pooling": "log_sum_exp"}),
    ],
    ids=str,
)
def test_such_an_encoder_is_taught_concepts(name: str, how: dict[str, object], tmp_path: Path) -> None:
    encoder = encoder_of(name)
    side = int(how.get("input_size", 32))
    labels = np.random.default_rng(0).integers(0, 3, 40)
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
    path = tmp_path / "pixels.bin"
    path.write_bytes(np.broadcast_to(colours[labels][:, None, None], (40, side, side, 3)).tobytes())
    data = ConceptData(DecodedPhotos(path, side), np.eye(3, dtype=np.float32)[labels], train=32)
    parameters = AdaptationParameters(
        **{"epochs": 12, "batch_size": 8, "ema_decay": 0.5, "learning_rate": 5e-3, **how}
    )
    resized = encoder.respecified(input_size=side)
    trained = adapt(resized, data, parameters, tmp_path / "checkpoint.pt")
    assert trained.curves["train_loss"].iloc[-1] < 0.7 * trained.curves["train_loss"].iloc[0]
    assert trained.encoder.spec == resized.spec
    before, after = resized.weights(), trained.encoder.weights()
    changed = {
        one for one in before if before[one].is_floating_point() and not torch.equal(before[one], after[one])
    }
    assert changed
    if "frozen" in how:
        assert not any(one.startswith(("patch_embed", "blocks.0")) for one in changed)
        assert any(one.startswith("blocks.1") for one in changed)
    if how.get("batch_norm") == "frozen":
        assert "bn1.weight" not in changed
        assert "bn1.running_mean" not in changed
