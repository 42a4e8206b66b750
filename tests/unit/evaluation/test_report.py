import numpy as np
import pytest

from captionloop.evaluation.calibration import CalibrationReport
from captionloop.evaluation.evaluation_report import evaluation_report, evaluation_table, tracked
from captionloop.evaluation.evaluation_set import EvaluationSet, PublishedRow
from captionloop.evaluation.figures import pareto_front
from captionloop.evaluation.model_card import missing_words
from captionloop.evaluation.predictions import PredictedCaption, Predictions
from captionloop.registry.registration import with_evaluation
from captionloop.scoring import bleu, java_metrics
from captionloop.scoring.scores import FAMILIES, METRICS, Scores

IDS = tuple(f"i{n}" for n in range(40))
PHOTOS = EvaluationSet(
    split="val",
    image_ids=IDS,
    uris=IDS,
    sha256s=IDS,
    references={i: ["a dog on a hill", "the dog"] for i in IDS},
)


def hypotheses(model, caption):
    predictions = {i: PredictedCaption(caption=caption, log_probability=-3, words=()) for i in IDS}
    return Predictions(
        model=model, split="val", beam="beam 5", vocabulary=20, default=predictions, greedy=predictions
    )


def scores(level, seed):
    random = np.random.default_rng(seed)
    ones = np.ones(len(IDS))
    hits = random.random(len(IDS)) < level
    return Scores(
        IDS,
        {
            "BLEU": bleu.statistics(
                [("a dog on a hill" if hit else "cats", ["a dog on a hill"]) for hit in hits]
            ),
            "METEOR": np.tile([level * 5, 5, 5, 1, 10.0], (len(IDS), 1))[:, [0, 0, 1, 2, 3, 4]],
            "ROUGE-L": np.column_stack([random.normal(level, 0.1, len(IDS)), ones]),
            "CIDEr": np.column_stack([random.normal(level, 0.1, len(IDS)), ones]),
        },
    )


@pytest.fixture(scope="module")
def report():
    found = {
        "plain": scores(0.4, 1),
        "plain.greedy": scores(0.3, 2),
        "attentive": scores(0.6, 3),
        "attentive.greedy": scores(0.5, 4),
    }
    models = [hypotheses("plain", "a dog"), hypotheses("attentive", "a dog on a hill")]
    return evaluation_report(PHOTOS, models, found, ["a dog"], seed=0, resamples=300)


def test_every_metric_of_every_model_has_its_interval(report):
    assert (report["split"], report["photos"]) == ("val", 40)
    assert set(report["models"]) == {"plain", "plain.greedy", "attentive", "attentive.greedy"}
    for metrics in report["models"].values():
        assert set(METRICS) <= set(metrics)
        for interval in metrics.values():
            assert set(interval) == {"value", "low", "high"}
            assert interval["low"] <= interval["value"] <= interval["high"]
    assert report["models"]["plain"]["unseen"]["value"] == 0
    assert report["models"]["attentive"]["length"]["value"] == 5


def test_models_are_compared_with_the_best(report):
    cider = next(one for one in report["comparisons"] if one["metric"] == "CIDEr")
    assert (cider["better"], cider["than"]) == ("attentive", "plain")
    assert cider["low"] > 0
    assert cider["probability"] > 0.99


def test_the_tracker_gets_names_it_allows(report):
    metrics = tracked(report)
    assert metrics["val.attentive.greedy.BLEU-4"]["step"] == 0
    assert not [
        key
        for key in metrics
        if set(key) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/")
    ]


def test_the_table_orders_models_by_cider_and_marks_the_best(report):
    table = evaluation_table(report)
    rows = [line for line in table.splitlines() if line.startswith(("| plain", "| attentive"))]
    assert rows[0].startswith("| attentive, beam 5 |")
    assert rows[0].count("**") == 2 * len(METRICS)
    assert "Published" not in table


def test_the_table_sets_published_rows_beside_and_says_when_they_are_of_other_photos(report):
    rows = (PublishedRow(name="Show and Tell", values={"BLEU-1": 63}),)
    table = evaluation_table(report, published=rows)
    assert "| Show and Tell | 63 |  |  |  |  |  |  |" in table
    assert "a guide, not a ranking" in table
    same = (PublishedRow(name="Ours before", split="val", values={"CIDEr": 50.1}),)
    assert "a guide, not a ranking" not in evaluation_table(report, published=same)


def test_the_pareto_front_leaves_out_what_is_slower_and_no_better():
    points = {"slow": (9.0, 0.6), "fast": (1.0, 0.5), "worse": (5.0, 0.4), "tied": (2.0, 0.5)}
    assert pareto_front(points) == ["fast", "slow"]


def test_words_that_people_use_and_the_model_does_not_are_counted_by_photo():
    assert missing_words(dict.fromkeys(IDS, "a dog"), PHOTOS, limit=2) == [("hill", 40), ("on", 40)]


def test_families_and_columns_go_together():
    assert len(FAMILIES["METEOR"].columns) == len(java_metrics.COLUMNS) == 6


def test_an_attached_captioner_keeps_its_facts_in_its_bundle(captioner, report, tmp_path):
    calibration = CalibrationReport(
        model="show_attend_tell", split="val", method="isotonic", photos=3, words=9, right=0.5,
        error_before=0.2, error_after=0.01, probability=(0.0, 1.0), confidence=(0.1, 0.8),
        bins_before=(), bins_after=(),
    )  # fmt: skip
    evaluation = {**report, "models": {"show_attend_tell": report["models"]["attentive"]}}
    evaluated = with_evaluation(captioner, evaluation, "# The card\n", calibration.model_dump(mode="json"))
    evaluated.save(tmp_path / "bundle")
    loaded = type(captioner).load(tmp_path / "bundle")
    assert loaded.metrics["CIDEr"] == report["models"]["attentive"]["CIDEr"]
    assert loaded.metrics["split"] == "val"
    assert loaded.card == "# The card\n"
    assert loaded.calibration(1.0) == pytest.approx(0.8)
    assert captioner.calibration is None


def test_how_well_captions_go_with_their_photos_is_a_column_of_its_own_with_an_interval():
    found = {
        name: one.with_metric("CLIPScore", {i: 0.5 + 0.01 * (n % 3) for n, i in enumerate(IDS)})
        for name, one in (("plain", scores(0.4, 1)), ("plain.greedy", scores(0.3, 2)))
    }
    report = evaluation_report(PHOTOS, [hypotheses("plain", "a dog")], found, [], seed=0, resamples=50)
    interval = report["models"]["plain"]["CLIPScore"]
    assert 0.5 <= interval["low"] <= interval["value"] <= interval["high"] <= 0.52
    assert "| CLIPScore |" in evaluation_table(report)
    kept = Scores.from_frame(found["plain"].to_frame())
    assert kept.values["CLIPScore"] == pytest.approx(found["plain"].values["CLIPScore"])
