"""Teaching on from ratings: several decoders, whose weights are averaged word by word."""

from dataclasses import replace

import corpus_for_tests
import pandas as pd
import pytest
import torch
from captionloop.pipelines.retraining.nodes import train_candidate
from captionloop.pipelines.training.nodes import train_cross_entropy

from captionloop.feedback.retraining_data import RetrainingParameters, training_tables
from captionloop.vision.encoder import Encoder, EncoderSpec

pytestmark = pytest.mark.integration


def test_all_decoders_have_the_vocabulary_that_the_feedback_brings(tmp_path):
    corpus = corpus_for_tests.draw_corpus(48)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    corpus.features.fingerprint = encoder.fingerprint
    # Of each of these the corpus has too few for its own vocabulary, and enough for one share of the replay.
    places = corpus.captions.index[corpus.captions["text"].str.contains("ground")]
    for word, mine in (("carpet", places[0::2]), ("meadow", places[1::2])):
        corpus.captions.loc[mine, "text"] += f" by a {word}"
    material = {"images": corpus.images, "captions": corpus.captions, "features": corpus.features}
    settings = corpus_for_tests.small_training(epochs=1, vocabulary={"min_frequency": 41})
    origin, _, _ = train_cross_entropy(
        **material, encoder=encoder, parameters=settings, workbench=tmp_path / "origin"
    )
    assert not {"carpet", "meadow", "ground"} & set(origin.tokenizer.words)

    rated = corpus.images[corpus.images["split"] == "train"].head(4)
    rated = rated.assign(image_id="feedback-" + rated["image_id"], source="feedback")
    said = pd.DataFrame(
        {
            "caption_id": [f"correction-{number}" for number in range(4)],
            "image_id": rated["image_id"].tolist(),
            "text": ["a zebra", "one zebra on the ground", "a lion on the ground", "a carpet"],
            "source": "correction",
            "weight": 1.0,
        }
    )
    parameters = RetrainingParameters(
        least_replay=30, replay=0, repeat=2, min_frequency=2, epochs=1, decoders=3, batch_size=20
    )
    tables = training_tables((corpus.images, corpus.captions), (rated, said), frozenset(), parameters)
    captioner, _, _ = train_candidate(
        *tables,
        corpus.features,
        encoder,
        pd.DataFrame({"concept": [], "weights": []}),
        replace(origin, lineage={}),
        {"version": 1, "origin": 1},
        {"until": ""},
        {"doubted": 0},
        parameters,
        tmp_path / "work",
    )
    known = len(origin.tokenizer.words)
    assert captioner.tokenizer.words[:known] == origin.tokenizer.words
    assert captioner.tokenizer.words[known:] == ["ground", "on", "the", "zebra"]  # not "carpet", said once
    assert captioner.decoder.words.vectors.shape[0] == known + 4
    assert torch.isfinite(captioner.decoder.words.vectors).all()
