import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from image_text_for_tests import model_for, processor_of, save, train_contrastively
from photos_for_tests import encoded
from PIL import Image

from captionloop.errors import ConfigurationError
from captionloop.evaluation.evaluation_set import ImageTextParameters
from captionloop.evaluation.image_text_score import ImageTextScorer

pytestmark = pytest.mark.integration

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SAID = [f"a {colour} picture" for colour in COLOURS]
PHOTOS = {colour: encoded(Image.new("RGB", (60, 40), colour), "PNG") for colour in COLOURS}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP that was taught which colour has which name."""
    processor = processor_of([*SAID, "A photo depicts"])
    model = model_for(processor)
    images = [Image.new("RGB", (32, 32), colour) for colour in COLOURS]
    train_contrastively(model, processor, images, [f"A photo depicts {text}" for text in SAID], steps=60)
    return save(model, processor, tmp_path_factory.mktemp("clip"))


def scorer(folder: Path, **changes: object) -> ImageTextScorer:
    return ImageTextScorer(ImageTextParameters(model=str(folder), **changes))


def test_right_captions_score_higher_than_shuffled_ones(clip: Path) -> None:
    right = dict(zip(COLOURS, SAID, strict=True))
    shuffled = dict(zip(COLOURS, [*SAID[1:], SAID[0]], strict=True))
    found = scorer(clip).scores(COLOURS, PHOTOS.__getitem__, {"right": right, "shuffled": shuffled})
    assert found["right"].shape == (6,)
    assert (found["right"] > found["shuffled"]).all()
    assert (found["right"] <= 2.5).all()
    assert (found["shuffled"] >= 0).all()


def test_neither_order_nor_batches_nor_other_systems_matter(clip: Path) -> None:
    right = dict(zip(COLOURS, SAID, strict=True))
    whole = scorer(clip).scores(COLOURS, PHOTOS.__getitem__, {"a": right})["a"]
    turned = scorer(clip, batch_size=4).scores(COLOURS[::-1], PHOTOS.__getitem__, {"b": right, "a": right})
    np.testing.assert_allclose(turned["a"][::-1], whole, atol=1e-5)
    assert scorer(clip).scores((), PHOTOS.__getitem__, {"a": right})["a"].shape == (0,)


def test_it_is_the_cosine_of_the_models_own_features(clip: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    images = [torch.from_numpy(np.array(Image.new("RGB", (60, 40), one))).permute(2, 0, 1) for one in COLOURS]
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    captions = dict(zip(COLOURS, SAID, strict=True))
    ours = scorer(clip, prompt="{}").scores(COLOURS, PHOTOS.__getitem__, {"a": captions})["a"]
    with torch.inference_mode():
        photos = model.get_image_features(**processor.image_processor(images=images, return_tensors="pt"))
        texts = model.get_text_features(**processor.tokenizer(SAID, padding=True, return_tensors="pt"))
        cosines = torch.cosine_similarity(photos.pooler_output, texts.pooler_output)
    np.testing.assert_allclose(ours, 2.5 * cosines.clamp(min=0).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "openai/clip-vit-base-patch32",
            "revision: give openai/clip-vit-base-patch32@<commit>",
        ),
        ("openai/clip-vit-base-patch32@3d74acf9", "cannot be loaded"),
        ("{empty}", "cannot be loaded"),
        ("{pickled}", "cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(
    model: str, message: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in clip.iterdir():
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=message) as caught:
        scorer(Path(model.format(empty=tmp_path / "empty", pickled=pickled)))
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_names_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigurationError, match=r"install captionloop\[transformers\]"):
        scorer(clip)
