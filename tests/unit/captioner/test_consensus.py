from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from captionloop.pipelines.training.nodes import ensemble_captioners, train_cross_entropy, train_self_critical
from corpus_for_tests import draw_corpus, small_training
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.captioner.beam_search import Hypothesis
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.consensus import NeighbourIndex
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import ConsensusOptions, DecodingOptions, ShowAndTellConfig
from captionloop.errors import BundleError, ConfigurationError, CorpusError
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.caption_data import CaptionedPhotos
from captionloop.training.train_captioner import build_index
from captionloop.training.training_parameters import EnsembleParameters, SelfCriticalParameters
from captionloop.vision.encoder import Encoder, EncoderSpec

CONSENSUS = DecodingOptions(
    beam_width=4, alternatives=2, max_length=8, consensus=ConsensusOptions(neighbours=5)
)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return CaptionTokenizer.train(corpus.captions["text"].tolist())


@pytest.fixture(scope="module")
def neighbours(corpus, tokenizer) -> NeighbourIndex:
    return build_index(corpus.images, corpus.captions, corpus.features, tokenizer, max_length=8)


def hypothesis(tokens, score: float = 0.0) -> Hypothesis:
    return Hypothesis(tuple(tokens), np.zeros(len(tokens) + 1, np.float32), None, score)


def train_photos(corpus, tokenizer) -> CaptionedPhotos:
    return CaptionedPhotos.from_tables(corpus.images, corpus.captions, "train", tokenizer, max_length=8)


def test_a_photo_that_was_taught_is_its_own_nearest_neighbour(corpus, neighbours, tokenizer):
    photos = train_photos(corpus, tokenizer)
    rows, weights = neighbours.nearest(corpus.features.means(photos.sha256s), ConsensusOptions(neighbours=7))
    assert rows.shape == weights.shape == (len(photos), 7)
    assert rows[:, 0].tolist() == list(range(len(photos)))
    assert np.all(np.diff(weights, axis=1) <= 1e-6)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)


def test_photos_that_were_not_taught_find_those_that_show_the_same(corpus, neighbours):
    validation = corpus.images[corpus.images["split"] == "val"]
    caption_of = corpus.captions.groupby("image_id")["text"].first()
    there = corpus.images[corpus.images["split"] == "train"].sort_values("image_id")["image_id"]
    rows, _ = neighbours.nearest(
        corpus.features.means(validation["sha256"].tolist()), ConsensusOptions(neighbours=1)
    )
    kinds = {caption_of[image_id] for image_id in there}
    for image_id, row in zip(validation["image_id"], rows[:, 0], strict=True):
        if caption_of[image_id] in kinds:
            assert caption_of[there.iloc[row]] == caption_of[image_id]


def test_what_agrees_with_the_neighbours_comes_before_what_is_likelier(corpus, neighbours, tokenizer):
    photos = train_photos(corpus, tokenizer)
    right, wrong = photos.tokens[0][0], photos.tokens[1][0]
    found = [[hypothesis(wrong, -0.1), hypothesis(right, -5.0)]]
    means = corpus.features.means(photos.sha256s[:1])
    alone = ConsensusOptions(neighbours=1, likelihood=0.0)
    assert [one.tokens for one in neighbours.rank(means, found, alone)[0]] == [right, wrong]
    likely = ConsensusOptions(neighbours=1, likelihood=100.0)
    assert [one.tokens for one in neighbours.rank(means, found, likely)[0]] == [wrong, right]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=6), st.integers(1, 12), st.floats(0.01, 1.0))
def test_the_worth_is_the_weighted_mean_of_cider_with_each_neighbour(shown, count, nearness):
    corpus = draw_corpus()
    tokenizer = CaptionTokenizer.train(corpus.captions["text"].tolist())
    photos = train_photos(corpus, tokenizer)
    index = NeighbourIndex.collect(photos, corpus.features)
    options = ConsensusOptions(neighbours=count, nearness=nearness, likelihood=0.5)
    means = corpus.features.means([photos.sha256s[n] for n in shown])
    found = [[hypothesis(photos.tokens[n][0], -1.0), hypothesis(photos.tokens[0][1], -2.0)] for n in shown]
    cider = CiderD({str(row): of_photo for row, of_photo in enumerate(photos.tokens)})
    rows, weights = index.nearest(means, options)
    ranked = index.rank(means, found, options)
    for near, weight, before, after in zip(rows, weights, found, ranked, strict=True):
        names = [str(row) for row in near]
        worth = sorted(
            (
                float(cider.rewards(names, [one.tokens] * len(names)) @ weight) + 0.5 * one.score
                for one in before
            ),
            reverse=True,
        )
        assert [one.score for one in after] == pytest.approx(worth, rel=1e-5)


def test_a_photo_counts_once_however_often_it_is_shown(corpus, tokenizer, neighbours):
    again = corpus.images.assign(image_id=corpus.images["image_id"] + "#2")
    again_captions = corpus.captions.assign(
        image_id=corpus.captions["image_id"] + "#2", caption_id=corpus.captions["caption_id"] + "#2"
    )
    tables = (pd.concat([corpus.images, again]), pd.concat([corpus.captions, again_captions]))
    twice = build_index(*tables, corpus.features, tokenizer, max_length=8)
    assert twice.captions == neighbours.captions


def test_what_comes_with_feedback_joins_what_is_remembered(corpus, neighbours, tokenizer):
    images = corpus.images.assign(
        source=["feedback" if n < 3 else "corpus" for n in range(len(corpus.images))]
    )
    extended = build_index(
        images, corpus.captions, corpus.features, tokenizer, max_length=8, known=neighbours
    )
    assert len(extended) == len(neighbours) + 3
    assert extended.captions[: len(neighbours)] == neighbours.captions
    same = build_index(
        corpus.images, corpus.captions, corpus.features, tokenizer, max_length=8, known=neighbours
    )
    assert same is neighbours


def test_one_photo_is_like_nothing(corpus, tokenizer):
    first = corpus.images[corpus.images["split"] == "train"].head(1)
    with pytest.raises(CorpusError, match="two training photos"):
        build_index(first, corpus.captions, corpus.features, tokenizer, max_length=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A captioner that finds a consensus, and what it was made of."""
    corpus = draw_corpus()
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    corpus.features.fingerprint = encoder.fingerprint
    shared = {"images": corpus.images, "captions": corpus.captions, "features": corpus.features}
    words = small_training(epochs=2, decoding=CONSENSUS.model_dump())
    folder = tmp_path_factory.mktemp("consensus")
    captioner, _, _ = train_cross_entropy(
        **shared, encoder=encoder, parameters=words, checkpoints=folder / "words"
    )
    return captioner, shared, words, folder


def test_a_taught_captioner_ranks_all_that_it_finds(trained, corpus):
    captioner, *_ = trained
    grids = corpus.features.grids(corpus.images["sha256"].tolist())
    found = captioner.decode_grids(grids)
    wide = CONSENSUS.model_copy(update={"consensus": None, "alternatives": 4})
    ranked = captioner.neighbours.rank(
        corpus.features.means(corpus.images["sha256"].tolist()),
        captioner.decode_grids(grids, wide),
        CONSENSUS.consensus,
    )
    assert [[one.tokens for one in of] for of in found] == [[one.tokens for one in of[:2]] for of in ranked]


def test_a_bundle_holds_the_neighbours(tmp_path, tokenizer):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    decoder = build_decoder(
        ShowAndTellConfig(embedding=8, hidden=8),
        vocabulary_size=tokenizer.vocabulary_size,
        channels=encoder.channels,
    )
    index = NeighbourIndex(
        centre=random.normal(size=encoder.channels).astype(np.float32),
        projection=random.normal(size=(encoder.channels, 4)).astype(np.float32),
        directions=random.normal(size=(6, 4)).astype(np.float16),
        captions=tuple(((4, 5, 6), (5, 6 + n)) for n in range(6)),
    )
    captioner = Captioner("little", encoder, decoder, tokenizer, CONSENSUS, index, device="cpu")
    captioner.save(tmp_path / "bundle")
    read = Captioner.load(tmp_path / "bundle", device="cpu")
    assert read.decoding == CONSENSUS
    assert read.neighbours.captions == index.captions
    for name, values in index.arrays().items():
        np.testing.assert_array_equal(read.neighbours.arrays()[name], values)
    grids = random.normal(size=(3, encoder.regions, encoder.channels)).astype(np.float32)
    assert read.caption_grids(grids) == captioner.caption_grids(grids)
    file = tmp_path / "bundle" / "neighbours.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match="damaged"):
        Captioner.load(tmp_path / "bundle", device="cpu")
    file.unlink()
    with pytest.raises(BundleError, match="missing"):
        Captioner.load(tmp_path / "bundle", device="cpu")


def test_greedy_decoding_has_nothing_to_rank(trained, corpus):
    captioner, *_ = trained
    plain = {"beam_width": 1, "alternatives": 1}
    grids = corpus.features.grids(corpus.images["sha256"].tolist())
    same = captioner.decode_grids(grids, CONSENSUS.model_copy(update=plain | {"consensus": None}))
    captions = captioner.decode_grids(grids, CONSENSUS.model_copy(update=plain))
    assert [of[0].tokens for of in captions] == [of[0].tokens for of in same]


def test_those_that_are_taught_on_or_joined_remember_the_same(trained):
    captioner, shared, words, folder = trained
    reward = SelfCriticalParameters.model_validate(
        {"epochs": 1, "batch_size": 8, "samples": 2, "processes": {"accelerator": "cpu"}}
    )
    on, _, _ = train_self_critical(
        **shared, start=captioner, parameters=reward, checkpoints=folder / "reward"
    )
    assert on.decoding == CONSENSUS
    assert on.neighbours is captioner.neighbours
    both = ensemble_captioners(
        **shared, encoder=captioner.encoder, by_words=captioner, by_reward=on, words=words, reward=reward,
        parameters=EnsembleParameters(), checkpoints=folder / "both",
    )  # fmt: skip
    assert both.neighbours is captioner.neighbours
    forgetful = replace(on, neighbours=None)
    with pytest.raises(ConfigurationError, match=r"remembers no training photos.*decoding\.consensus"):
        ensemble_captioners(
            **shared, encoder=captioner.encoder, by_words=captioner, by_reward=forgetful, words=words,
            reward=reward, parameters=EnsembleParameters(), checkpoints=folder / "both",
        )  # fmt: skip


def test_another_search_takes_over_what_was_taught(trained, caplog):
    captioner, shared, words, folder = trained
    other = words.model_copy(update={"decoding": DecodingOptions(beam_width=2)})
    with caplog.at_level("INFO"):
        again, _, _ = train_cross_entropy(
            **shared, encoder=captioner.encoder, parameters=other, checkpoints=folder / "words"
        )
    assert "taken over" in caplog.text
    assert again.neighbours is None


def test_a_consensus_without_neighbours_is_an_error_that_says_what_to_do(trained, corpus):
    forgetful = replace(trained[0], neighbours=None)
    with pytest.raises(ConfigurationError, match=r"remembers no training photos.*decoding\.consensus"):
        forgetful.decode_grids(corpus.features.grids(corpus.images["sha256"].tolist()[:1]))
