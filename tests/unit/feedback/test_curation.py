import hashlib

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_for_tests import ratings, sha

from captionloop.feedback.curation import Photos, curate, held_out_set, is_held_out
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.rating_checks import RatingIssue
from captionloop.feedback.rating_filters import AbuseList

ABUSE = AbuseList.parse("idiot")
NO_CORPUS = (
    pd.DataFrame(columns=["image_id", "sha256", "source"], dtype=str),
    pd.DataFrame(columns=["image_id", "text", "source"], dtype=str),
)
ALL = FeedbackParameters(held_out=0, gold_items=0)
TRUE = ["a dog runs on the beach", "the dog runs along a beach", "dog on a sandy beach"]


def facts(table: pd.DataFrame, broken: str = "", missing: str = "") -> Photos:
    seen = sorted(set(table["image_id"]))
    return Photos(
        pd.DataFrame(
            {
                "sha256": seen,
                "width": 64,
                "height": 48,
                "good": [one not in {sha(broken), sha(missing)} for one in seen],
                "missing": [one == sha(missing) for one in seen],
            }
        )
    )


def curated(table: pd.DataFrame, parameters: FeedbackParameters = ALL, corpus=NO_CORPUS, **photos):
    return curate(table, facts(table, **photos), *corpus, ABUSE, parameters)


def test_a_correction_becomes_a_reference_with_its_provenance() -> None:
    made = curated(ratings({"rater": "person:a", "stars": 2, "photo": "p", "correction": TRUE[0], "id": 7}))
    (row,) = made.references.to_dict("records")
    assert (row["text"], row["source"], row["ratings"], row["rater"]) == (
        TRUE[0],
        "correction",
        "7",
        "person:a",
    )
    assert 0 < row["weight"] <= 1
    (image,) = made.images.to_dict("records")
    assert image["image_id"] == row["image_id"] == f"feedback-{sha('p')}"
    assert (image["uri"], image["split"], image["source"]) == (
        f"{sha('p')[:2]}/{sha('p')}",
        "train",
        "feedback",
    )


def test_a_caption_that_several_people_praise_is_a_weak_reference() -> None:
    rows = [{"rater": f"person:{n}", "stars": 5, "caption": "c", "text": TRUE[0]} for n in range(4)]
    one = curated(ratings(*rows))
    (row,) = one.references.to_dict("records")
    assert (row["source"], row["weight"], row["text"]) == ("approved", ALL.weights.approved, TRUE[0])
    assert curated(ratings(*rows[:1])).references.empty
    contested = [*rows, *({"rater": f"person:x{n}", "stars": 1, "caption": "c"} for n in range(4))]
    assert curated(ratings(*contested)).references.empty


def test_a_rated_caption_was_accepted_or_it_was_not() -> None:
    rows = [{"rater": f"person:{n}", "stars": stars, "caption": "good"} for n, stars in enumerate((4, 5, 2))]
    rows += [{"rater": f"person:{n}", "stars": stars, "caption": "bad"} for n, stars in enumerate((3, 1, 4))]
    rows += [{"rater": "person:bad", "stars": 5, "caption": "abused", "correction": "you are an idiot"}]
    verdicts = curated(ratings(*rows)).verdicts.set_index("caption_id")["accepted"]
    assert verdicts.to_dict() == {"good": 1.0, "bad": 0.0}
    assert curated(ratings()).verdicts.empty


def test_a_caption_that_people_find_bad_is_evidence_against_it() -> None:
    rows = [{"rater": f"person:{n}", "stars": 1, "caption": "c", "text": "a cat"} for n in range(3)]
    made = curated(ratings(*rows))
    assert made.rejections["text"].tolist() == ["a cat"] and made.references.empty


def test_abuse_never_becomes_a_reference_and_its_sender_is_not_believed_otherwise() -> None:
    rows = [
        {"rater": "person:bad", "stars": 1, "correction": "you are an idiot"},
        {"rater": "person:bad", "stars": 1, "correction": "what an idiot took this"},
        {"rater": "person:bad", "stars": 1, "correction": "a quite plausible caption"},
        {"rater": "person:good", "stars": 1, "correction": TRUE[0]},
    ]
    made = curated(ratings(*rows))
    assert made.references["text"].tolist() == [TRUE[0]]
    assert sorted(made.quarantine["reason"]) == [RatingIssue.ABUSE, RatingIssue.ABUSE, RatingIssue.UNRELIABLE]


@pytest.mark.parametrize(
    ("state", "reason"), [("broken", RatingIssue.PHOTO_BROKEN), ("missing", RatingIssue.PHOTO_MISSING)]
)
def test_a_photo_that_cannot_be_learnt_from_takes_its_ratings_with_it(state: str, reason: str) -> None:
    rows = [{"rater": "person:a", "photo": p, "correction": TRUE[0]} for p in ("good", "bad")]
    made = curated(ratings(*rows), **{state: "bad"})
    assert made.quarantine["reason"].tolist() == [reason]
    assert made.images["sha256"].tolist() == [sha("good")]


def test_photos_of_the_corpus_judge_raters_and_teach_nothing() -> None:
    corpus = (
        pd.DataFrame([{"image_id": f"i{n}", "sha256": sha(f"k{n}"), "source": "corpus"} for n in range(6)]),
        pd.DataFrame(
            [
                {"image_id": f"i{n}", "text": text.replace("dog", f"animal{n}"), "source": "human"}
                for n in range(6)
                for text in TRUE
            ]
        ),
    )
    rows = []
    for n in range(6):
        gold_row = {"photo": f"k{n}", "caption": f"c{n}", "text": TRUE[0].replace("dog", f"animal{n}")}
        rows += [
            {"rater": "person:good", "stars": 5, **gold_row},
            {"rater": "person:bad", "stars": 1, **gold_row},
        ]
    rows += [{"rater": f"person:{who}", "photo": who, "correction": TRUE[0]} for who in ("good", "bad")]
    cleaned = [{**row, "sent": row["photo"], "photo": f"{row['photo']} without metadata"} for row in rows]
    for table in (ratings(*rows), ratings(*cleaned)):
        made = curated(table, corpus=corpus)
        assert made.rater_scores.raters.set_index("rater")["gold"].tolist() == [6, 6]
        assert made.references["rater"].tolist() == ["person:good"]
        assert len(made.images) == 1 and not set(made.images["sha256"]) & set(corpus[0]["sha256"])

    test_photo = [{"rater": "person:good", "photo": "kept", "sent": "k1", "correction": TRUE[1]}]
    assert curated(ratings(*rows, *test_photo), corpus=corpus).references["caption_id"].nunique() == 1


def test_what_is_held_out_is_never_trained_on_and_stays_held_out() -> None:
    corrections = [{"photo": f"p{n}", "correction": f"dog{n} on beach{n}"} for n in range(60)]
    table = ratings(*({"rater": f"person:{n % 9}", **row} for n, row in enumerate(corrections)))
    parameters = FeedbackParameters(held_out=0.4, gold_items=0)
    made = curated(table, parameters)
    tested = held_out_set(made.held_out, 1000)
    assert set(tested.image_ids).isdisjoint(made.images["image_id"]) and tested.image_ids
    assert len(tested.image_ids) + len(made.images) == 60
    assert all(is_held_out(one, 0.4) for one in tested.sha256s)
    first = curated(table.head(30), parameters)
    assert set(held_out_set(first.held_out, 1000).image_ids) <= set(tested.image_ids)
    newest = held_out_set(made.held_out, 3)
    assert len(newest.image_ids) == 3 and newest.image_ids == tuple(sorted(newest.image_ids))


def test_without_defences_everybody_is_believed() -> None:
    rows = [{"rater": "person:bad", "stars": 1, "correction": "you are an idiot"}]
    made = curated(ratings(*rows), FeedbackParameters(held_out=0, defences=False))
    assert made.references["text"].tolist() == ["you are an idiot"]


def test_no_ratings_give_empty_tables() -> None:
    made = curated(ratings())
    assert made.images.empty and made.references.empty and made.quarantine.empty
    assert held_out_set(made.held_out, 10).image_ids == ()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "rater": st.sampled_from(["person:a", "person:b", "person:c", "key:d"]),
            "stars": st.integers(1, 5),
            "caption": st.sampled_from([f"c{n}" for n in range(6)]),
            "correction": st.sampled_from([None, *TRUE, "you idiot there", "no"]),
            "minutes": st.integers(0, 5000),
        }
    ),
    max_size=25,
    unique_by=lambda row: (row["rater"], row["caption"]),
)


@settings(max_examples=15, deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([f"c{n}" for n in range(6)]))
@pytest.mark.integration
def test_laws_of_curation(rows, rng, erased: str) -> None:
    table = ratings(*rows)
    parameters = FeedbackParameters(held_out=0.3, gold_items=0)
    made = curated(table, parameters)
    # Every rating is somewhere, a reference has a positive weight, and abuse is nowhere.
    assert len(made.quarantine) <= len(table)
    assert made.references["weight"].between(0, 1, inclusive="right").all()
    assert not made.references["text"].str.contains("idiot").any()
    assert not made.held_out["text"].str.contains("idiot").any()
    # The order of the rows does not matter.
    order = list(table.index)
    rng.shuffle(order)
    again = curated(table.loc[order], parameters)
    pd.testing.assert_frame_equal(made.references, again.references, rtol=1e-9)
    pd.testing.assert_frame_equal(made.rejections, again.rejections, rtol=1e-9)
    # A photo that is not there any more is in nothing that is made.
    photo = hashlib.sha256(erased.encode()).hexdigest()
    rest = curated(table[table["image_id"] != photo], parameters)
    for ids in (
        rest.images["image_id"],
        rest.references["image_id"],
        rest.held_out["image_id"],
        rest.rejections["image_id"],
    ):
        assert f"feedback-{photo}" not in set(ids)
