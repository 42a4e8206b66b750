from dataclasses import replace

import pytest

from captionloop.captioner.captioner import Calibration
from captionloop.errors import StoreError
from captionloop.evaluation.evaluation_set import evaluation_set
from captionloop.evaluation.predictions import Predictions, caption_split


@pytest.fixture(scope="module")
def photos(images, captions):
    return evaluation_set(images, captions, "val")


@pytest.fixture(scope="module")
def predictions(captioner, features, photos):
    return caption_split(captioner, features, photos, batch_size=2)


def test_every_photo_is_captioned_greedily_and_as_the_bundle_says(predictions, photos):
    assert tuple(predictions.default) == tuple(predictions.greedy) == photos.image_ids
    assert predictions.beam == "beam 2"
    assert all(len(caption.alternatives) == 1 for caption in predictions.default.values())
    assert not any(caption.alternatives for caption in predictions.greedy.values())
    assert set(predictions.systems()) == {"show_attend_tell", "show_attend_tell.greedy"}


def test_what_was_said_does_not_depend_on_the_batch(captioner, features, photos, predictions):
    again = caption_split(captioner, features, photos, batch_size=64)
    assert again.systems() == predictions.systems()


def test_words_keep_the_decoders_own_probability(captioner, features, photos, predictions):
    sure = replace(captioner, calibration=Calibration(probability=(0.0, 1.0), confidence=(0.5, 0.5)))
    assert caption_split(sure, features, photos, batch_size=2) == predictions


def test_hypotheses_survive_json(predictions):
    assert Predictions.model_validate_json(predictions.model_dump_json()) == predictions


def test_features_of_another_encoder_are_refused(captioner, features, photos):
    with pytest.raises(StoreError, match="not of the encoder of 'show_attend_tell'"):
        caption_split(captioner, replace(features, fingerprint="0" * 64), photos, batch_size=2)
