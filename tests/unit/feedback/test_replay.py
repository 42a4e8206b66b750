import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.errors import CorpusError
from captionloop.feedback.retraining_data import (
    EncoderRetrainingParameters,
    RetrainingParameters,
    all_training_data,
    encoder_tables,
    feedback_once,
    tables_of,
    training_tables,
    usable_feedback,
)


def corpus(photos: int):
    images = pd.DataFrame(
        [
            {
                "image_id": f"i{n:03d}", "uri": f"{n}.png", "sha256": f"{n:064x}", "width": 9, "height": 9,
                "split": "val" if n % 5 == 0 else "train", "source": "corpus",
            }
            for n in range(photos)
        ]
    )  # fmt: skip
    captions = pd.DataFrame(
        [
            {
                "caption_id": f"i{n:03d}#{k}",
                "image_id": f"i{n:03d}",
                "text": "a b",
                "source": "human",
                "weight": 1.0,
            }
            for n in range(photos)
            for k in range(5)
        ]
    )
    return images, captions


def feedback(photos: int):
    images, captions = corpus(photos)
    mark = lambda table: table.assign(image_id="feedback-" + table["image_id"])  # noqa: E731
    images = mark(images).assign(
        source="feedback", split="train", sha256=[f"f{n:063x}" for n in range(photos)]
    )
    captions = mark(captions[captions["caption_id"].str.endswith("#0")])
    return images, captions.assign(
        source="correction", caption_id=captions["caption_id"].map("correction-{}".format)
    )


PARAMETERS = RetrainingParameters(replay=3, min_captions=0, repeat=1, decoders=1)


def test_the_corpus_is_replayed_in_proportion_and_val_is_whole() -> None:
    images, captions = training_tables(corpus(100), feedback(20), frozenset(), PARAMETERS)
    old = images[(images["source"] == "corpus") & (images["split"] == "train")]
    replayed = captions[captions["image_id"].isin(old["image_id"])]
    assert len(replayed) == 60 and len(old) > 30
    assert (images["split"] == "val").sum() == 20
    assert captions["caption_id"].is_unique and images["image_id"].is_unique


def test_every_turn_replays_other_captions_and_a_repeated_one_the_same() -> None:
    replays = [
        set(
            training_tables(corpus(100), feedback(20), frozenset(), PARAMETERS, replay_seed=number)[1][
                "caption_id"
            ]
        )
        for number in (1, 2, 1)
    ]
    assert replays[0] == replays[2] != replays[1]


def test_a_photo_that_was_erased_in_the_meantime_is_left_out() -> None:
    new = feedback(20)
    gone = new[0]["sha256"].iloc[3]
    images, captions = training_tables(corpus(100), new, frozenset({gone}), PARAMETERS)
    assert gone not in set(images["sha256"])
    assert new[0]["image_id"].iloc[3] not in set(captions["image_id"])


def test_nothing_to_learn_from_is_said() -> None:
    new = feedback(3)
    with pytest.raises(CorpusError, match="no correction and no approved caption"):
        training_tables(corpus(10), new, frozenset(new[0]["sha256"]), PARAMETERS)


def test_repeated_photos_have_ids_of_their_own_and_the_same_features() -> None:
    images, captions = training_tables(
        corpus(50), feedback(4), frozenset(), PARAMETERS.model_copy(update={"repeat": 3})
    )
    new = images[images["source"] == "feedback"]
    assert len(new) == 12 and new["sha256"].nunique() == 4 and new["image_id"].is_unique
    assert (captions["source"] == "correction").sum() == 12 and captions["caption_id"].is_unique


def test_a_corpus_smaller_than_the_replay_is_replayed_whole() -> None:
    few = PARAMETERS.model_copy(update={"min_captions": 10_000})
    images, _ = training_tables(corpus(30), feedback(2), frozenset(), few)
    assert ((images["source"] == "corpus") & (images["split"] == "train")).sum() == 24


def test_an_encoder_sees_whole_photos_of_the_corpus_again_and_others_at_each_turn() -> None:
    parameters = EncoderRetrainingParameters(replay=30, repeat=2)
    gone = feedback(4)[0]["sha256"].iloc[1]
    seen = []
    for number in (1, 2):
        new = usable_feedback(feedback(4), frozenset({gone}))
        images, captions = encoder_tables(corpus(100), new, parameters, number)
        old = images[(images["source"] == "corpus") & (images["split"] == "train")]
        new = images[images["source"] == "feedback"]
        assert len(old) == 30 and len(new) == 6 and gone not in set(new["sha256"])
        assert (images["split"] == "val").sum() == 20
        assert (captions["image_id"].isin(old["image_id"])).sum() == 150
        assert set(captions["image_id"]) == set(images["image_id"]) and captions["caption_id"].is_unique
        seen.append(set(old["image_id"]))
    assert seen[0] != seen[1]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 3), st.integers(0, 120))
def test_each_decoder_has_a_share_of_the_replay_and_all_of_the_rest(decoders, photos, repeat, least) -> None:
    parameters = RetrainingParameters(replay=3, min_captions=least, repeat=repeat, decoders=decoders)
    whole = training_tables(corpus(40), feedback(photos), frozenset(), parameters)
    replayed = set(captions_of(whole, "corpus", "train"))
    wanted = max(least, 3 * photos)
    assert len(replayed) == min(160, decoders * wanted)
    shares = [tables_of(whole, decoder, parameters) for decoder in range(decoders)]
    seen: list[str] = []
    for share in shares:
        assert captions_of(share, "feedback", "train") == captions_of(whole, "feedback", "train")
        assert captions_of(share, "corpus", "val") == captions_of(whole, "corpus", "val")
        assert set(share[0]["image_id"]) == set(share[1]["image_id"])
        own = captions_of(share, "corpus", "train")
        assert len(own) == min(wanted, len(replayed))
        seen.extend(own)
    assert set(seen) == replayed
    if decoders * wanted <= 160:
        assert len(seen) == len(replayed)


def test_one_decoder_is_taught_with_everything() -> None:
    whole = training_tables(corpus(100), feedback(20), frozenset(), PARAMETERS)
    for all_of_it, own in zip(whole, tables_of(whole, 0, PARAMETERS), strict=True):
        assert own.equals(all_of_it)


def captions_of(tables, source: str, split: str) -> list[str]:
    images, captions = tables
    there = images.loc[(images["source"] == source) & (images["split"] == split), "image_id"]
    return captions.loc[captions["image_id"].isin(there), "caption_id"].tolist()


@pytest.mark.parametrize("repeat", [1, 5])
def test_what_was_taught_is_the_whole_corpus_and_each_correction_once(repeat: int) -> None:
    parameters = PARAMETERS.model_copy(update={"repeat": repeat, "decoders": 3})
    tables = training_tables(corpus(100), feedback(20), frozenset(), parameters)
    images, captions = feedback_once(tables)
    assert sorted(images["image_id"]) == sorted(feedback(20)[0]["image_id"])
    assert sorted(captions["caption_id"]) == sorted(feedback(20)[1]["caption_id"])
    images, captions = all_training_data(corpus(100), tables)
    assert (images["source"] == "corpus").sum() == 100 and len(images) == 120
    assert len(captions) == 500 + 20
    assert captions["caption_id"].is_unique


def test_what_was_erased_was_not_taught() -> None:
    erased = frozenset(feedback(20)[0]["sha256"].head(3))
    tables = training_tables(corpus(100), feedback(20), erased, PARAMETERS)
    assert len(feedback_once(tables)[1]) == 17
