import zlib

import numpy as np
import pytest
import torch
from captionloop.pipelines.registration import create_pipeline
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from neighbours import module_of

from captionloop.captioner.captioner import Captioner
from captionloop.errors import ConfigurationError
from captionloop.evaluation.calibration import CalibrationReport
from captionloop.evaluation.evaluation_set import evaluation_set
from captionloop.evaluation.predictions import caption_split
from captionloop.languages import ENGLISH
from captionloop.registry import registration, scored_captions
from captionloop.registry.gate import Floors, GateParameters, Guardrails
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.registration import RegistrationParameters
from captionloop.scoring.scores import Scores

pytestmark = pytest.mark.integration

toys = module_of("evaluation")
images, captions, encoder, features = toys.images, toys.captions, toys.encoder, toys.features
make_captioner, photo_folder = toys.make_captioner, toys.photo_folder

ANYTHING = RegistrationParameters(
    timed_photos=2,
    gate=GateParameters(
        margin=10,
        resamples=200,
        floors=Floors(cider=1e-6, words=1, captions=0, shortest=1e-6),
        guardrails=Guardrails(
            largest_drop=1,
            slowest=1e6,
            shortest=1e-6,
            longest=1e6,
            fewest_words=1e-6,
            hallucinations=1e6,
        ),
    ),
)
NOTHING = ANYTHING.model_copy(update={"gate": ANYTHING.gate.model_copy(update={"margin": 1e-9})})


def fake_score(said, references, language=ENGLISH):
    """CIDEr from the caption's letters: no Java, and worse captions are known beforehand."""
    values = [0.1 + zlib.crc32(caption.encode()) % 100 / 50 for caption in said.values()]
    return Scores(tuple(said), {"CIDEr": np.column_stack([values, np.ones(len(values))])})


class Kept(MemoryDataset):
    """Survives the last node that reads it."""

    def _release(self):
        pass


@pytest.fixture
def registry(mlflow_store, request) -> ModelRegistry:
    return ModelRegistry(mlflow_store, f"pipeline {zlib.crc32(request.node.nodeid.encode()):08x}", "tests")


@pytest.fixture
def captioners(make_captioner):
    """Three captioners that say different things."""
    made = []
    for seed in range(3):
        captioner = make_captioner("show_attend_tell")
        torch.manual_seed(100 + seed)
        for parameter in captioner.decoder.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        made.append(captioner)
    return made


@pytest.fixture
def run(images, captions, features, photo_folder, registry, monkeypatch):
    """Runs the pipeline for a captioner, and gives what it wrote by name."""
    monkeypatch.setattr(scored_captions, "score", fake_score)

    def run(captioner, parameters=ANYTHING, tables=None, cider=0.5):
        photos = evaluation_set(images, captions if tables is None else tables, "val")
        said = caption_split(captioner, features, photos, batch_size=4)
        scores = fake_score(said.systems()[captioner.name], {}).to_frame()
        values = {"CIDEr": {"value": cider, "low": 0.4, "high": 0.6}}
        given = {
            "evaluation_photos": photos.model_dump(mode="json"),
            "calibration_photos": photos.model_dump(mode="json"),
            "images": images,
            "features": features,
            "raw_photos": photo_folder,
            "model_registry": registry,
            "params:registration": parameters,
            "evaluation": {"split": "val", "photos": 5, "models": {captioner.name: values}},
            "caption_scores": scores.assign(system=captioner.name),
            "scene_facts": {},
            "training_data": {"photos": 5, "words": {"red": 2}, "feedback_photos": []},
            "show_attend_tell.captioner": captioner,
            "show_attend_tell.hypotheses": said.model_dump(mode="json"),
            "show_attend_tell.calibration": REPORT.model_dump(mode="json"),
            "show_attend_tell.model_card": "# show_attend_tell",
        }
        catalog = DataCatalog(
            {name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()}
        )
        pipeline = create_pipeline(models=["show_attend_tell"])
        outputs = sorted(pipeline.all_outputs())
        for name in outputs:
            catalog[name] = Kept(copy_mode="assign")
        SequentialRunner().run(pipeline, catalog)
        return {name: catalog.load(name) for name in outputs}

    return run


REPORT = CalibrationReport(
    model="show_attend_tell",
    split="val",
    method="isotonic",
    photos=5,
    words=20,
    right=0.5,
    error_before=0.2,
    error_after=0.1,
    probability=(0.0, 1.0),
    confidence=(0.1, 0.9),
    bins_before=(),
    bins_after=(),
)


def state(registry):
    """Everything about the registry but when it came about."""
    gate = lambda version: {k: v for k, v in version.gate.items() if k != "reason"}  # noqa: E731
    return [(v.version, v.aliases, v.fingerprint, v.replaced, gate(v)) for v in registry.versions()]


def test_a_first_captioner_becomes_version_one_and_champion(run, captioners, registry, tmp_path):
    outputs = run(captioners[0])
    assert outputs["gate"]["promoted"]
    assert outputs["registered_version"]["version"] == 1
    champion = registry.champion()
    assert champion.aliases == ("challenger", "champion")
    assert champion.metrics == {"CIDEr": 0.5}
    assert champion.lineage == {"git_commit": "abc", "model": "show_attend_tell"}
    fetched = registry.fetch("champion", tmp_path / "bundle")
    assert (fetched / "MODEL_CARD.md").read_text() == "# show_attend_tell"
    known = Captioner.load(fetched).familiarity
    assert (len(known.training), len(known.distances)) == (3, 5)


def test_the_next_is_compared_with_the_champion_from_the_captions_it_left(
    run, captioners, registry, monkeypatch
):
    run(captioners[0])
    monkeypatch.setattr(registration, "caption_all", None)  # the champion need not caption again
    outputs = run(captioners[1])
    assert outputs["gate"]["champion"] == "version 1"
    assert outputs["gate"]["difference"] is not None
    assert {check["name"] for check in outputs["gate"]["checks"]} >= {"seconds per photo", "empty captions"}
    assert registry.champion().version == 2
    assert registry.previous().version == 1


def test_the_best_version_so_far_is_the_anchor_and_decisions_on_the_set_are_counted(run, captioners):
    first = run(captioners[0], cider=0.9)
    assert (first["challenge"]["anchor"], first["gate"]["set_use"]["decisions"]) == (None, 1)
    assert "The champion is the best version so far" in run(captioners[1])["gate"]["notes"][0]
    outputs = run(captioners[2])
    assert outputs["gate"]["champion"] == "version 2"
    assert outputs["challenge"]["anchor"] == 1
    assert outputs["challenge"]["anchor_captions"] == first["candidate_captions"]["captions"]
    assert outputs["gate"]["set_use"] == {"decisions": 3, "budget": 50}
    assert run(captioners[2])["gate"]["set_use"]["decisions"] == 3, "the same again is no other decision"


def test_on_another_evaluation_set_the_champion_captions_afresh(run, captioners, captions, registry):
    first = run(captioners[0])
    more = captions.assign(text=captions["text"] + " indeed")
    outputs = run(captioners[1], tables=more)
    assert outputs["challenge"]["evaluation_set"] != first["candidate_captions"]["evaluation_set"]
    assert set(outputs["challenge"]["captions"]) == set(first["candidate_captions"]["captions"])
    assert outputs["gate"]["champion"] == "version 1"


def test_a_refused_candidate_is_kept_and_the_champion_stays(run, captioners, registry):
    run(captioners[0])
    for captioner in captioners[1:]:
        outputs = run(captioner, parameters=NOTHING)
        if not outputs["gate"]["promoted"]:
            break
    refused = registry.challenger()
    assert not outputs["gate"]["promoted"]
    assert refused.passed_gate is False
    assert refused.reason == outputs["gate"]["reason"]
    assert not refused.is_champion
    assert outputs["gate_report"].startswith("# Not passed")


def test_running_again_changes_nothing(run, captioners, registry):
    run(captioners[0])
    once = run(captioners[1])
    before = state(registry)
    again = run(captioners[1])
    assert state(registry) == before
    assert again["gate"]["difference"] == once["gate"]["difference"]
    assert again["registered_version"]["version"] == once["registered_version"]["version"]


def test_what_people_rolled_back_does_not_come_back_by_itself(run, captioners, registry):
    run(captioners[0])
    run(captioners[1])
    registry.rollback()
    outputs = run(captioners[1])
    assert not outputs["gate"]["promoted"]
    assert "was rolled back" in outputs["gate"]["reason"]
    assert registry.champion().version == 1


STEPS = (
    "log_artifacts",
    "create_model_version",
    "log_text",
    "set_model_version_tag",
    "set_registered_model_alias",
)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.e2e  # it takes most of a minute
@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_and_started_again_it_ends_the_same(
    run, captioners, registry, mlflow_store, monkeypatch, step
):
    for captioner in captioners[:2]:
        run(captioner)
    unbroken = state(registry)
    client = registry._client
    registry.name += " again"
    run(captioners[0])
    real = getattr(client, step)

    def killed(*args, **kwargs):
        real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(client, step, killed)
        run(captioners[1])
    run(captioners[1])
    assert state(registry) == unbroken


def test_a_model_that_is_not_trained_is_refused(run, captioners):
    parameters = ANYTHING.model_copy(update={"model": "show_and_forget"})
    with pytest.raises(ConfigurationError, match=r"'show_and_forget'.* choose one of show_attend_tell"):
        run(captioners[0], parameters=parameters)
