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
        **material, encoder=encoder, parameters=settings, checkpoints=tmp_path / "origin"
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
        min_captions=30, replay=0, repeat=2, min_frequency=2, epochs=1, decoders=3, batch_size=20
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


def test_a_pre_trained_origin_is_taught_on_by_the_same_node(tmp_path):
    pytest.importorskip("transformers", reason="needs captionloop[transformers]")
    from tiny_pretrained import TowerFeatures, make_pretrained

    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.model_config import DecodingOptions, LoraOptions
    from captionloop.captioner.pretrained.pretrained_family import open_captioner

    corpus = corpus_for_tests.draw_corpus(48)
    model = make_pretrained(
        "vision-encoder-decoder", tmp_path / "model", texts=corpus.captions["text"].tolist()
    )
    decoding = DecodingOptions(beam_width=2, alternatives=2, max_length=16)
    origin = open_captioner(str(model), "origin", decoding, lora=LoraOptions(rank=2))
    features = TowerFeatures(corpus.features._grids, origin.encoder.fingerprint)
    rated = corpus.images[corpus.images["split"] == "train"].head(4)
    rated = rated.assign(image_id="feedback-" + rated["image_id"], source="feedback")
    said = pd.DataFrame(
        {
            "caption_id": [f"correction-{number}" for number in range(4)],
            "image_id": rated["image_id"].tolist(),
            "text": "a zebra on the ground",
            "source": "correction",
            "weight": 1.0,
        }
    )
    parameters = RetrainingParameters(
        min_captions=30, replay=0, repeat=2, min_frequency=2, epochs=2, decoders=2, batch_size=20, dropout=0.1
    )
    tables = training_tables((corpus.images, corpus.captions), (rated, said), frozenset(), parameters)
    captioner, curves, _ = train_candidate(
        *tables,
        features,
        origin.encoder,
        pd.DataFrame({"concept": [], "weights": []}),
        origin,
        {"version": 1, "origin": 1},
        {"until": ""},
        {"doubted": 0},
        parameters,
        tmp_path / "work",
    )
    assert list(curves["epoch"]) == [0, 1]
    before, after = origin.decoder.state_dict(), captioner.decoder.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert captioner.lineage["feedback_rows"] == 4
    captioner.save(tmp_path / "bundle")
    loaded = Captioner.load(tmp_path / "bundle", device="cpu")
    grids = features.grids(corpus.images["sha256"].tolist()[:3])
    said_by = [[one.best.text for one in each.caption_grids(grids)] for each in (captioner, loaded)]
    assert said_by[0] == said_by[1]
