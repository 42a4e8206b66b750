"""From ratings in a real database to a challenger in a real registry, on a corpus of coloured squares."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest
import torch
from captionloop.pipelines import feedback, retraining
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from neighbours import module_of
from safetensors.torch import load_file

from captionloop.datasets.model_datasets import FeaturesDataset
from captionloop.errors import CorpusError, RegistryError
from captionloop.evaluation.evaluation_set import (
    CalibrationParameters,
    EvaluationParameters,
    LatencyParameters,
    evaluation_set,
)
from captionloop.feedback.curation import archive_uri
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.rating_checks import RatingIssue
from captionloop.feedback.retraining_data import (
    EncoderRetrainingParameters,
    ExaminationParameters,
    RetrainingParameters,
)
from captionloop.photos import PhotoArchive, PhotoFolder
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.ratings.reader import RatingsDatabase
from captionloop.registry.gate import GateParameters, Guardrails
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.registration import RegistrationParameters
from captionloop.registry.scored_captions import load_training_data
from captionloop.training import processes
from captionloop.vision.feature_caching import CachingParameters
from captionloop.vision.feature_store import FeatureStore

toys = module_of("evaluation")
images, captions, encoder = toys.images, toys.captions, toys.encoder
make_captioner, photo_folder = toys.make_captioner, toys.photo_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]  # Java, OpenVINO, torch, MLflow: a minute, idle

PARTS = {
    "feedback": feedback.create_pipeline,
    "encoder": retraining.create_encoder_pipeline,
    "caching": retraining.create_caching_pipeline,
    "training": retraining.create_training_pipeline,
    "evaluation": retraining.create_evaluation_pipeline,
    "registration": retraining.create_registration_pipeline,
}
WORDS = [{"text": word, "confidence": 0.8, "attention": None} for word in ("a", "red", "box")]
LENIENT = GateParameters(
    margin=10,
    resamples=200,
    guardrails=Guardrails(
        largest_drop=1, slowest=1e6, shortest=1e-6, longest=1e6, fewest_words=1e-6, hallucinations=1e6
    ),
)
PARAMETERS = {
    "params:feedback": FeedbackParameters(held_out=0.3, gold_items=0),
    "params:feature_caching": CachingParameters(),
    "params:retraining_encoder": EncoderRetrainingParameters(
        epochs=1,
        replay=3,
        repeat=1,
        min_photos=2,
        batch_size=4,
        label_noise=ExaminationParameters(rounds=2, min_photos=2, epochs=1, replay=2),
    ),
    "params:retraining": RetrainingParameters(
        epochs=1, min_captions=4, repeat=2, min_frequency=1, decoders=2
    ),
    "params:evaluation": EvaluationParameters(
        split="val",
        resamples=100,
        latency=LatencyParameters(photos=1, batch=2, batches=1),
        calibration=CalibrationParameters(least_ratings=5),
    ),
    "params:registration": RegistrationParameters(timed_photos=1, gate=LENIENT),
}


class Kept(MemoryDataset):
    """Survives the last node that reads it."""

    def _release(self):
        pass


class Service:
    """The ratings database and photo archive that a service leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/ratings.db"
        upgrade(self.url)
        self.store = RatingsStore(self.url)
        self.photos = folder / "photos"
        self.archive = PhotoArchive(str(self.photos))

    def serve(self, name: str, photo: bytes) -> str:
        sha256 = hashlib.sha256(photo).hexdigest()
        self.archive.write(sha256, photo)
        facts = PhotoFacts(sha256, "image/png", len(photo), 48, 40)
        served = ServedCaption(name, "key:a", facts, "a red box", 0.5, WORDS, [], "show_attend_tell", "1")
        self.store.record(served).result(10)
        return sha256

    def rate(self, name: str, rater: str, stars: int, correction: str | None) -> None:
        self.store.rate(name, rater, RatingInput(stars, correction)).result(10)


@pytest.fixture
def service(tmp_path):
    opened = Service(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def registry(mlflow_store, request, make_captioner, tmp_path) -> ModelRegistry:
    made = ModelRegistry(mlflow_store, f"retraining {request.node.name}"[:80], "tests")
    make_captioner("show_attend_tell").save(tmp_path / "first")
    made.promote(made.register(tmp_path / "first").version)
    return made


@pytest.fixture
def run(images, captions, photo_folder, service, registry, tmp_path):
    """Runs some of the pipelines; gives everything that was written by name."""
    frozen = evaluation_set(images, captions, "val").model_dump(mode="json")
    given = {
        "base_images": images,
        "base_scene_facts": {},
        "base_captions": captions,
        "base_photos": photo_folder,
        "base_evaluation_photos": frozen,
        "base_calibration_photos": frozen,
        "base_concepts": pd.DataFrame({"concept": ["red", "green", "box"]}),
        "retraining_feature_store": FeatureStore(tmp_path / "store of the run"),
        "retraining_encoder_checkpoints": tmp_path / "encoder",
        "retraining_examination_checkpoints": tmp_path / "examination",
        "base_feature_store": FeatureStore(tmp_path / "store"),
        "base_model_registry": registry,
        "model_registry": registry,
        "ratings_database": RatingsDatabase(service.url),
        "erased_ratings": RatingsDatabase(service.url),
        "photo_archive": PhotoFolder(str(service.photos)),
        "abuse_list": "idiot",
        "retraining_checkpoints": tmp_path / "work",
        **PARAMETERS,
    }
    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()})

    def run(*parts: str):
        pipeline = sum((PARTS[part]() for part in parts), start=Pipeline([]))
        for name in sorted(pipeline.all_outputs()):
            if name in {"retraining_features", "retraining_champion_features"}:
                catalog[name] = FeaturesDataset(filepath=str(tmp_path / f"{name}.json"))
            elif name not in catalog.keys():  # noqa: SIM118
                catalog[name] = Kept(copy_mode="assign")
        SequentialRunner().run(pipeline, catalog)
        return catalog

    return run


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several, the examination has processes of its own, which cannot read this file's photos."""
    monkeypatch.setattr(processes, "cores", lambda: 1)


def test_ratings_become_a_challenger_and_the_champion_stays(run, service, registry, make_captioner, tmp_path):
    for number in range(12):
        service.serve(f"c{number}", toys.png(100 + number))
        service.rate(
            f"c{number}", f"person:{number % 4}", 2, f"a striped zebra{number} in the sun{number} zebra"
        )
    erased = service.serve("erased", toys.png(200))
    service.rate("erased", "person:1", 2, "a photo that nobody should see")
    corrupt = service.serve("corrupt", b"this is no photo")
    service.rate("corrupt", "person:2", 1, "a photo that cannot be seen")
    service.serve("abused", toys.png(201))
    service.rate("abused", "person:bad", 1, "you are an idiot")
    service.store.erase("erased", owner=None).result(10)

    made = run("feedback")
    report = made.load("feedback_report")
    assert report["new_ratings"] == 14 and report["enough"] is False
    assert report["sentence"] == "14 new ratings so far, of which 12 count, 50 needed"
    assert report["quarantined"] == {RatingIssue.ABUSE: 1, RatingIssue.PHOTO_BROKEN: 1}
    used, tested = report["used"]["photos"], report["used"]["held_out_photos"]
    assert used + tested == 12 and used and tested

    # Erased after the feedback was collected: training does without it all the same.
    gone = made.load("feedback_images")["sha256"].iloc[0]
    captions = {hashlib.sha256(toys.png(100 + n)).hexdigest(): f"c{n}" for n in range(12)}
    made = run("encoder")
    # So does the test with photos that are held out; its photo is not even in the archive any more.
    untested = made.load("feedback_held_out")["sha256s"][0]
    for sha256 in service.store.erase(captions[untested], owner=None).result(10):
        (service.photos / archive_uri(sha256)).unlink()
    made = run("caching")
    service.store.erase(captions[gone], owner=None).result(10)
    made = run("training", "evaluation", "registration")

    examined = made.load("retraining_examination")
    assert examined["examined"] == len(made.load("feedback_references"))
    assert examined["doubted"] == len(examined["references"])
    believed = set(made.load("retraining_references")["caption_id"])
    assert believed == set(made.load("feedback_references")["caption_id"]) - {
        one["caption_id"] for one in examined["references"]
    }
    assert not (tmp_path / "examination").exists()

    looked_at = set(made.load("retraining_features").manifest.photos)
    assert erased not in looked_at and corrupt not in looked_at
    taught = made.load("retraining_images")
    assert gone not in set(taught["sha256"])
    assert not set(taught["image_id"]) & set(made.load("feedback_held_out")["image_ids"])
    captioner = made.load("retraining_captioner")
    assert "zebra" in captioner.tokenizer.words
    before, after = made.load("feedback_champion").encoder, captioner.encoder
    assert after == made.load("retraining_encoder") != before and after.spec == before.spec
    assert made.load("retraining_features").fingerprint == after.fingerprint
    assert made.load("retraining_champion_features").fingerprint == before.fingerprint
    assert len(made.load("retraining_encoder_curves")) == 1

    # The candidate knows what it was taught from, feedback included, and what people accepted.
    complete, learnt_from = made.load("retraining_candidate"), taught[taught["split"] == "train"]
    assert len(complete.familiarity.training) == learnt_from["sha256"].nunique()
    acceptance = made.load("retraining_calibration")["acceptance"]
    assert acceptance["ratings"] == len(made.load("feedback_verdicts")) - 2  # two were erased meanwhile
    assert acceptance["ratings_after"] < acceptance["ratings_before"]
    assert complete.calibration.of_caption([0.8, 0.8]) < 0.5

    gate = made.load("retraining_gate")
    assert gate["fresh"]["photos"] == tested - 1 and not gate["fresh"]["decides"]
    assert set(made.load("retraining_evaluation")["models"]) >= {"candidate", "champion"}
    registered = made.load("retraining_registered_version")
    assert registered["version"] == 2 and registered["passed"] and registered["reason"]
    assert registry.version(2).aliases == ("challenger",) and registry.version(1).is_champion
    assert registry.version(2).lineage["parent_version"] == "1"
    taught_apart = [load_file(path) for path in sorted((tmp_path / "work").glob("*/best.safetensors"))]
    assert len(taught_apart) == 2
    for name, mean in captioner.decoder.state_dict().items():
        torch.testing.assert_close(mean, (taught_apart[0][name] + taught_apart[1][name]) / 2)
    assert captioner.lineage["feedback_doubted_references"] == examined["doubted"]

    # Each correction counts once, however often it is shown; the corpus as a whole, not what is replayed.
    references = made.load("retraining_references")
    learnt = references[references["image_id"] != f"feedback-{gone}"]
    old = made.load("base_images")
    old = old[old["split"] == "train"]
    data = made.load("retraining_training_data")
    assert data["corrections"] == captioner.lineage["feedback_corrections"] == len(learnt)
    assert captioner.lineage["feedback_rows"] == len(learnt)
    said = made.load("base_captions")["image_id"].isin(old["image_id"])
    assert data["captions"] == said.sum() + len(learnt)
    assert data["photos"] == len(old) + learnt["image_id"].nunique()
    assert data["words"]["zebra"] == len(learnt)
    assert f"{len(learnt)} of them corrections" in made.load("retraining_model_card")
    evidence = registry.fetch_evidence(2, tmp_path / "evidence")
    assert load_training_data(evidence) == data
    assert data["held_out_photos"] == sorted(made.load("retraining_held_out")["sha256s"])
    assert not set(data["held_out_photos"]) & set(data["feedback_photos"])

    # What the new version has learnt from is not new any more, and the next does not begin with its weights.
    registry.promote(2)
    assert (
        run("feedback")
        .load("feedback_report")["sentence"]
        .startswith("0 new ratings since those that version 2 l")
    )
    assert made.load("feedback_origin").encoder == before
    known = made.load("feedback_champion_version")
    assert (known["version"], known["origin"], known["retrained_version"]) == (2, 1, 2)

    # Somebody promotes another version while a run is under way.
    make_captioner("show_and_tell").save(tmp_path / "other")
    registry.promote(registry.register(tmp_path / "other").version)
    made["feedback_champion_version"] = MemoryDataset({"version": 1})
    with pytest.raises(RegistryError, match="began with version 1, but the champion is now version 3"):
        run("registration")


def test_an_empty_window_is_told_and_taught_from_by_nobody(run):
    made = run("feedback")
    assert made.load("feedback_report")["sentence"] == "0 new ratings so far, 50 needed"
    with pytest.raises(CorpusError, match="holds no correction and no approved caption"):
        run("encoder")
