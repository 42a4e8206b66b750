"""The vision tower of a pre-trained model learns what captions name, and is another model's tower then."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from captionloop.pipelines.pretrained.nodes import open_captioner
from PIL import Image
from tiny_pretrained import make_pretrained

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.pretrained.base_model import find_base, open_base
from captionloop.captioner.pretrained.vision_tower import TrainableTower
from captionloop.errors import EncoderError
from captionloop.photos import PhotoFolder
from captionloop.training.training_parameters import PretrainedParameters

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
TOWER = {"epochs": 3, "batch_size": 6, "learning_rate": 3e-3, "pooling": "log_sum_exp", "ema_decay": 0.5}


@pytest.fixture
def corpus(tmp_path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, PhotoFolder]:
    random = np.random.default_rng(0)
    images, captions = [], []
    (tmp_path / "photos").mkdir()
    for number in range(30):
        colour = list(COLOURS)[number % 3]
        pixels = np.clip(random.normal(COLOURS[colour], 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
        split = "val" if number >= 24 else "train"
        images.append((str(number), f"{number}.png", f"{number:064d}", 32, 32, split, "corpus"))
        captions.append((str(number), str(number), f"a {colour} wall", "human", 1.0))
    return (
        pd.DataFrame(images, columns=["image_id", "uri", "sha256", "width", "height", "split", "source"]),
        pd.DataFrame(captions, columns=["caption_id", "image_id", "text", "source", "weight"]),
        pd.DataFrame({"concept": list(COLOURS)}),
        PhotoFolder(str(tmp_path / "photos")),
    )


@pytest.mark.parametrize("kind", ["vision-encoder-decoder", "smolvlm"])
def test_a_taught_tower_makes_another_model_with_the_same_text_side(kind, corpus, tmp_path):
    model = make_pretrained(kind, tmp_path / "model")
    parameters = PretrainedParameters(captioner=str(model), tower=TOWER)
    trained = open_captioner(*corpus, parameters, tmp_path / "work", "en")
    before = open_captioner(*corpus, PretrainedParameters(captioner=str(model)), tmp_path / "none", "en")
    assert trained.encoder.fingerprint != before.encoder.fingerprint
    one, other = before.decoder.text.state_dict(), trained.decoder.text.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one if "lora_" not in name)
    assert before.tokenizer.words == trained.tokenizer.words
    assert trained.lineage["tower"]["of"] == str(model)

    again = open_captioner(*corpus, parameters, tmp_path / "work", "en")
    assert again.encoder.fingerprint == trained.encoder.fingerprint  # done before: gone on from

    trained.save(tmp_path / "bundle")
    shutil.rmtree(tmp_path / "work")
    del again
    alone = Captioner.load(tmp_path / "bundle")
    photo = (tmp_path / "photos" / "0.png").read_bytes()
    assert alone.caption([photo])[0].best.text == trained.caption([photo])[0].best.text


def test_it_learns_what_the_captions_name(corpus, tmp_path):
    from captionloop.pipelines.encoder_adaptation.nodes import finetune_encoder

    base = open_base(find_base(str(make_pretrained("vision-encoder-decoder", tmp_path / "model"))))
    tower = TrainableTower.in_folder(base, tmp_path / "taught")
    how = PretrainedParameters(tower={**TOWER, "epochs": 12}).tower
    _, curves, _ = finetune_encoder(*corpus, tower, how, tmp_path / "work", "en")
    assert curves["val_map"].iloc[-1] > 0.9
    assert curves["val_loss"].iloc[-1] < curves["val_loss"].iloc[0]


def test_a_layer_cannot_be_frozen(tmp_path):
    base = open_base(find_base(str(make_pretrained("blip", tmp_path / "model"))))
    with pytest.raises(EncoderError, match="as a whole"):
        TrainableTower.in_folder(base, tmp_path / "taught").trainable_layers("layer")
