import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.corpus.tables import CAPTIONS, IMAGES
from captionloop.feedback.label_noise import fold_of, noise_threshold, reference_fit
from captionloop.feedback.retraining_data import EncoderRetrainingParameters, label_noise_tables

WORDS = ["cat", "dog", "moon", "red"]


def references(rows: list[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id", "text"])
    return table.assign(caption_id=[f"correction-{n}" for n in range(len(table))])


def knowing(photos: list[set[str]]) -> np.ndarray:
    """What an encoder says that sees everything."""
    return np.array([[4.0 if word in there else -4.0 for word in WORDS] for there in photos], np.float32)


def test_what_fits_its_photo_ranks_above_what_belongs_to_another():
    photos = [{"cat"}, {"dog", "red"}, {"moon"}, {"cat", "moon"}]
    rows = references([("a", "a cat"), ("b", "the red dog"), ("c", "a cat and the moon"), ("d", "a dog")])
    found = reference_fit(knowing(photos), pd.Series(["a", "b", "c", "d"]), rows, WORDS)
    assert found[0] == found[1] == 1
    assert found[2] < 1
    assert found[3] <= 1 / 3


def test_a_photo_alone_is_not_compared():
    found = reference_fit(knowing([{"cat"}]), pd.Series(["a"]), references([("a", "a dog")]), WORDS)
    assert found.tolist() == [1.0]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_a_rank_is_the_share_of_other_photos_that_the_words_are_less_likely_of(seed, photos):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(photos, len(WORDS))).astype(np.float32)
    names = pd.Series([f"p{n}" for n in range(photos)])
    texts = [" ".join(random.choice(WORDS, random.integers(1, 4), replace=False)) for _ in names]
    found = reference_fit(logits, names, references(list(zip(names, texts, strict=True))), WORDS)
    chance = 1 / (1 + np.exp(-logits.astype(float)))
    for number, text in enumerate(texts):
        there = np.array([word in text.split() for word in WORDS])
        likely = np.where(there, chance, 1 - chance).prod(axis=1)
        assert found[number] == pytest.approx((likely < likely[number] * (1 - 1e-9)).sum() / (photos - 1))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(60, 600), st.floats(0.0, 0.2))
def test_wrong_references_are_found_among_right_ones(seed, count, wrong):
    random = np.random.default_rng(seed)
    bad = round(wrong * count)
    even = (np.arange(bad) + random.uniform(size=bad)) / max(1, bad)
    found = np.concatenate([even, 1 - random.beta(1, 20, size=count - bad)])
    verdict = noise_threshold(found, max_noise_rate=0.25)
    assert verdict.wrong == pytest.approx(wrong, abs=0.12)
    suspect = found < verdict.bound
    assert suspect[bad:].mean() < 0.1
    if bad >= 20:
        assert suspect[:bad].mean() > 0.5


def test_how_many_are_wrong_is_not_told_by_a_handful_of_the_lowest_ranks():
    """As in the fifth round of a play: by chance few of the wrong ones, 10 of 32, lay in the lower half."""
    wrong = np.concatenate([np.linspace(0.02, 0.48, 10), np.linspace(0.52, 0.92, 22)])
    right = np.concatenate([np.linspace(0.7, 0.94, 12), np.linspace(0.95, 1, 286)])
    suspect = np.concatenate([wrong, right]) < noise_threshold(np.concatenate([wrong, right]), 0.2).bound
    assert suspect[:32].sum() >= 16
    assert suspect[32:].sum() <= 8


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 400))
def test_nothing_is_doubted_by_an_encoder_that_cannot_tell(seed, count):
    found = np.random.default_rng(seed).uniform(size=count)
    verdict = noise_threshold(found, max_noise_rate=0.2)
    if count > 50:
        assert (found < verdict.bound).mean() < 0.1
    assert verdict.wrong <= 0.2


def test_parts_are_the_same_in_every_run_and_about_equal():
    ids = pd.Series([f"feedback-{n:064x}" for n in range(0, 200_000, 199)])
    folds = fold_of(ids, 2)
    assert folds.equals(fold_of(ids.sample(frac=1, random_state=0), 2).sort_index())
    assert 0.45 < folds.mean() < 0.55


def test_what_is_examined_stands_where_validation_looks():
    def images(names, split, source):
        rows = pd.DataFrame({"image_id": names, "split": split, "source": source, "uri": names})
        return rows.assign(sha256=names, width=9, height=9)[list(IMAGES)]

    def texts(names):
        rows = pd.DataFrame({"caption_id": [f"{name}#0" for name in names], "image_id": names})
        return rows.assign(text="a cat", source="human", weight=1.0)[list(CAPTIONS)]

    corpus = images(["t1", "t2"], "train", "corpus"), texts(["t1", "t2", "v1"])
    corpus = pd.concat([corpus[0], images(["v1"], "val", "corpus")]), corpus[1]
    learnt = images(["f1"], "train", "feedback"), texts(["f1"])
    examined = images(["f2", "f3"], "train", "feedback"), texts(["f2", "f3"])
    parameters = EncoderRetrainingParameters(replay=1, repeat=2)
    tables = label_noise_tables(corpus, learnt, examined, parameters)
    trained = tables[0].loc[tables[0]["split"] == "train", "image_id"].tolist()
    assert len(trained) == 3
    assert trained[1:] == ["f1", "f1#2"]
    assert tables[0].loc[tables[0]["split"] == "val", "image_id"].tolist() == ["f2", "f3"]
    assert set(tables[1]["image_id"]) == set(tables[0]["image_id"])
