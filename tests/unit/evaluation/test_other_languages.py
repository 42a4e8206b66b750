"""An evaluation in a language that METEOR does not know: it is absent, and everything says so."""

from dataclasses import replace

import pytest

from captionloop.captioner.decoders import build_decoder
from captionloop.errors import ConfigurationError
from captionloop.evaluation.calibration import CalibrationReport, calibrate, word_correctness
from captionloop.evaluation.evaluation_report import evaluation_report, evaluation_table, tracked
from captionloop.evaluation.evaluation_set import CalibrationParameters, EvaluationSet, evaluation_set
from captionloop.evaluation.latency import Latency
from captionloop.evaluation.model_card import TrainingData, missing_words, model_card
from captionloop.evaluation.predictions import PredictedCaption, PredictedWord, Predictions, caption_split
from captionloop.languages import language_of
from captionloop.registry.gate import GateParameters, decide
from captionloop.registry.gate_report import gate_report
from captionloop.registry.scored_captions import ScoredCaptions
from captionloop.scoring.scores import score_systems
from captionloop.tokenizer import CaptionTokenizer

CHINESE, FRENCH = language_of("zh"), language_of("fr")
REFERENCES = {
    f"i{n}": [f"一只{colour}色的{animal}在草地上", f"草地上有{colour}色的{animal}"]
    for n, (colour, animal) in enumerate((c, a) for c in "红蓝绿黄" for a in ("狗", "猫", "鸭子"))
}
PHOTOS = EvaluationSet(
    split="val",
    image_ids=tuple(REFERENCES),
    uris=tuple(REFERENCES),
    sha256s=tuple(REFERENCES),
    references=REFERENCES,
    language="zh",
)
GOOD = {image_id: texts[0] for image_id, texts in REFERENCES.items()}
POOR = dict.fromkeys(REFERENCES, "一辆红色的车在街上")


def prediction(text: str) -> PredictedCaption:
    words = tuple(PredictedWord(text=character, confidence=0.5) for character in text)
    return PredictedCaption(caption=text, log_probability=-1.0, words=words)


def hypotheses(model: str, captions: dict[str, str]) -> Predictions:
    found = {image_id: prediction(text) for image_id, text in captions.items()}
    return Predictions(model=model, split="val", beam="beam 5", vocabulary=30, default=found, greedy=found)


@pytest.fixture(scope="module")
def scores():
    systems = {"good": GOOD, "good.greedy": GOOD, "poor": POOR, "poor.greedy": POOR}
    return score_systems(systems, REFERENCES, CHINESE)


@pytest.fixture(scope="module")
def report(scores):
    models = [hypotheses("good", GOOD), hypotheses("poor", POOR)]
    return evaluation_report(PHOTOS, models, scores, list(POOR.values()), seed=0, resamples=200)


def test_characters_are_compared_and_not_whole_sentences(scores):
    assert scores["good"].values["BLEU-4"] == pytest.approx(1, abs=1e-6)
    assert scores["good"].values["CIDEr"] > 1
    assert 0 < scores["poor"].values["BLEU-1"] < 0.7


def test_a_metric_that_does_not_know_the_language_is_absent_and_not_zero(scores, report):
    assert "METEOR" not in scores["good"].metrics
    for metrics in report["models"].values():
        assert "METEOR" not in metrics
        assert {"CIDEr", "BLEU-4", "ROUGE-L"} <= set(metrics)
    assert "METEOR" not in {one["metric"] for one in report["comparisons"]}
    assert not [key for key in tracked(report) if "METEOR" in key]
    assert report["language"] == "zh"
    assert report["models"]["good"]["length"]["value"] == pytest.approx(31 / 3)


def test_the_table_says_what_is_left_out(report):
    table = evaluation_table(report)
    assert "Chinese in characters" in table
    assert "Without METEOR, which is of English only." in table
    assert "Penn Treebank" not in table
    assert "| METEOR" not in table


def test_the_gate_says_what_it_did_not_look_at(scores):
    good = ScoredCaptions("good", "set", GOOD, scores["good"], language=CHINESE)
    poor = ScoredCaptions("poor", "set", POOR, scores["poor"], language=CHINESE)
    decision = decide(good, poor, GateParameters(resamples=200))
    assert decision.left_out == ("METEOR",)
    assert "Not looked at: METEOR" in gate_report(decision)
    assert not [check for check in decision.checks if check.name == "METEOR"]
    # About 10 characters are about 6 words: the floor for a sentence is not for characters.
    assert good.mean_length == pytest.approx(9.7 / 1.6, abs=0.4)


def test_evidence_is_gathered_in_the_language():
    by_cider = ScoredCaptions.by_cider("good", GOOD, REFERENCES, CHINESE)
    gathered = ScoredCaptions.by_all_metrics("good", GOOD, REFERENCES, language=CHINESE)
    assert by_cider.scores.values["CIDEr"] == pytest.approx(gathered.scores.values["CIDEr"])


def test_words_are_right_where_a_reference_has_them():
    one = {"i0": prediction("一只狗")}
    assert word_correctness(one, {"i0": ["一只猫"]}, CHINESE).right.tolist() == [1, 1, 0]
    words = tuple(PredictedWord(text=text, confidence=0.5) for text in ("l'", "objet", "rouge"))
    french = {"i0": PredictedCaption(caption="l'objet rouge", log_probability=-1.0, words=words)}
    assert word_correctness(french, {"i0": ["L’objet bleu"]}, FRENCH).right.tolist() == [1, 1, 0]


def test_the_card_names_the_language_and_what_is_not_computed(captioner, report):
    tokenizer = CaptionTokenizer.train(GOOD.values(), language=CHINESE)
    decoder = build_decoder(
        captioner.decoder.config,
        vocabulary_size=tokenizer.vocabulary_size,
        channels=captioner.encoder.channels,
    )
    chinese = replace(captioner, name="good", tokenizer=tokenizer, decoder=decoder)
    spoken = {image_id: prediction(text) for image_id, text in GOOD.items()}
    calibration = calibrate("good", "val", spoken, REFERENCES, CalibrationParameters(), CHINESE)
    card = model_card(
        chinese,
        report,
        calibration=CalibrationReport.model_validate(calibration.model_dump()),
        latency=Latency(p50_ms=1, p95_ms=2, from_features_per_second=3, from_photos_per_second=4),
        machine="a machine",
        data=TrainingData("corpus", 1, 2, 0),
        missing=missing_words(POOR, PHOTOS),
    )
    assert "Captions photos in Chinese." in card
    assert "Not computed: METEOR" in card
    assert "狗" in card


def test_a_captioner_is_not_evaluated_in_another_language(captioner, features):
    with pytest.raises(ConfigurationError, match=r"captions in English \(en\).*Chinese \(zh\)"):
        caption_split(captioner, features, PHOTOS, batch_size=2)


def test_the_evaluation_set_says_its_language(images, captions):
    assert evaluation_set(images, captions, "val", FRENCH).reference_language == FRENCH
    kept = evaluation_set(images, captions, "val").model_dump(mode="json")
    del kept["language"]  # as one of before
    assert EvaluationSet.model_validate(kept).reference_language.code == "en"
