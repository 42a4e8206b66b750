"""Models are named in `models` of an environment's parameters, and need nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from captionloop.pipelines.training.models import attends, models_of, with_needed
from corpus_for_tests import MadeUpFeatures, draw_corpus
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro.validation.parameter_validator import ParameterValidator

from captionloop.conf_checks import check_configuration
from captionloop.config import read_configuration
from captionloop.errors import ConfigurationError
from captionloop.pipeline_registry import pipelines_of
from captionloop.vision.encoder import Encoder, EncoderSpec

WORDS = {"objective": "cross_entropy", "decoder": {"kind": "show_and_tell"}}
ATTENDS = {"objective": "cross_entropy", "decoder": {"kind": "transformer"}}
TINY = {
    "objective": "cross_entropy",
    "decoder": {"kind": "transformer", "width": 16, "heads": 2, "layers": 1, "dropout": 0.0},
    "epochs": 1,
    "learning_rate": 0.01,
    "precision": "float32",
    "vocabulary": {"min_frequency": 1},
    "processes": {"accelerator": "cpu"},
    "decoding": {"beam_width": 2, "alternatives": 1},
}


class Kept(MemoryDataset):
    """In memory, and there to be looked at when the run is over."""

    def _release(self) -> None:
        pass


def on(name: str) -> dict[str, str]:
    return {"objective": "self_critical", "start_from": name}


def of(*names: str, **more: object) -> dict[str, object]:
    return {"objective": "ensemble", "members": list(names), **more}


def models(**blocks: object) -> list[str]:
    return [model.name for model in models_of({"models": blocks})]


@pytest.fixture
def project(own_project: Path) -> Path:
    """As `own_project`."""
    return own_project


def environment(project: Path, blocks: Mapping[str, Any], **more: object) -> Any:
    """The configuration of an environment that says this of its models."""
    (project / "conf/mine/parameters_training.yml").write_text(yaml.safe_dump({"models": blocks, **more}))
    return read_configuration(project, "mine")


def test_models_stand_after_those_that_they_are_made_from() -> None:
    assert models(both=of("on", "a"), on=on("a"), a=WORDS) == ["a", "on", "both"]
    found = models_of({"models": {"b": ATTENDS, "both": of("on", "a"), "on": on("a"), "a": WORDS}})
    assert [model.name for model in with_needed(found, "on")] == ["a", "on"]
    assert [model.name for model in with_needed(found, "both")] == ["a", "on", "both"]
    assert attends(found) == "b"
    assert attends(with_needed(found, "on")) == "a"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({}, "Parameter models is empty"),
        ({"A b": WORDS}, "a model cannot be called 'A b'"),
        ({"candidate": WORDS}, "models.candidate: candidate is what something else is called"),
        ({"a": 3}, "models.a is 3, and must be a block"),
        ({"a": {"epochs": 2}}, "models.a has no objective"),
        ({"a": {"objective": "self_critic"}}, r"models.a.objective .* did you mean self_critical\?"),
        ({"a": WORDS, "b": {"objective": "self_critical"}}, "models.b has no start_from"),
        ({"a": WORDS, "b": {"objective": "ensemble"}}, "models.b has no members"),
        ({"transformer": WORDS, "b": on("transfomer")}, r"models.b.start_from .* did you mean transformer\?"),
        ({"a": WORDS, "b": on("a"), "c": of("a", "bb")}, "models.c.members names bb, which is no model"),
        ({"a": WORDS, "b": of("a", "a")}, "two different members"),
        ({"a": WORDS, "b": of("a")}, "two different members"),
        ({"a": on("b"), "b": on("c"), "c": on("a")}, "a -> b -> c -> a is a circle"),
        ({"a": on("a")}, "a -> a is a circle"),
        ({"a": WORDS, "b": of("a", "b")}, "b -> b is a circle"),
        ({"a": WORDS, "b": ATTENDS, "c": of("a", "b"), "d": on("c")}, "an ensemble cannot be trained on"),
        ({"a": WORDS, "b": ATTENDS, "c": of("a", "b", seeds=[1])}, "models.c.seeds: siblings"),
    ],
)
def test_models_that_cannot_be_built_are_told_in_one_line(blocks: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        models_of({"models": blocks})
    assert "\n" not in str(error.value)


def test_a_model_is_called_as_its_block_is_and_null_is_none(project: Path) -> None:
    blocks = {"tiny": TINY, "ensemble": None, "show_and_tell": {"objective": "cross_entropy", "decoder": {}}}
    found = environment(project, blocks)["parameters"]["models"]
    assert found["tiny"] == {"name": "tiny", **TINY}
    assert "ensemble" not in found
    assert found["show_and_tell"] == {"name": "show_and_tell", "objective": "cross_entropy", "decoder": {}}


def test_a_model_that_an_environment_adds_is_trained_evaluated_and_may_be_registered(project: Path) -> None:
    loader = environment(
        project,
        {"tiny": TINY, "tiny_on": on("tiny"), "joined": of("tiny", "show_attend_tell")},
        registration={"model": "tiny_on"},
    )
    pipelines = pipelines_of(loader["parameters"])
    check_configuration(loader, pipelines)
    nodes = {node.name for node in pipelines["__default__"].nodes}
    assert {
        "training.tiny.train_cross_entropy",
        "training.tiny_on.train_self_critical",
        "training.build_ensemble_joined",
        "evaluation.tiny.predict_captions",
        "evaluation.joined.measure_latency",
        "evaluation.write_model_card_tiny_on",
    } <= nodes
    (prepare,) = [node for node in pipelines["registration"].nodes if node.name.endswith("prepare_candidate")]
    assert {"tiny.captioner", "tiny_on.model_card", "joined.hypotheses"} <= set(prepare.inputs)
    made = {name for name in pipelines["demo"].all_outputs() if name.endswith(".captioner")}
    assert made == {"tiny.captioner", "tiny_on.captioner"}


def test_what_an_environment_says_wrongly_of_a_model_is_told(project: Path) -> None:
    loader = environment(project, {"tiny": {**TINY, "epoch": 3}})
    with pytest.raises(ConfigurationError, match=r"models.tiny.epoch in conf/mine.*did you mean models.tiny"):
        check_configuration(loader, pipelines_of(loader["parameters"]))


@pytest.mark.integration
def test_a_model_of_an_environment_alone_captions(project: Path, tmp_path: Path) -> None:
    others = dict.fromkeys(("self_critical", "ensemble"))
    small = {"epochs": 1, "samples": 2, "batch_size": 12, "processes": {"accelerator": "cpu"}}
    blocks = {**others, "tiny": TINY, "tiny_on": {**on("tiny"), **small}, "joined": of("tiny_on", "tiny")}
    parameters = environment(project, blocks)["parameters"]
    pipelines = pipelines_of(parameters)
    parameters = ParameterValidator(pipelines).validate_raw_params(parameters)
    corpus = draw_corpus(24)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    features = MadeUpFeatures({key: grid[:4] for key, grid in corpus.features._grids.items()})
    features.fingerprint, features.rows, features.columns, features.regions = encoder.fingerprint, 2, 2, 4
    wanted = [f"{name}.{made}" for name in ("tiny", "joined") for made in ("hypotheses", "calibration")]
    pipeline = (pipelines["training"] + pipelines["evaluation"]).to_outputs(*wanted)
    given: dict[str, object] = {
        "training_images": corpus.images, "training_captions": corpus.captions, "images": corpus.images,
        "captions": corpus.captions, "features": features, "encoder": encoder,
        "params:language": "en", "params:evaluation": parameters["evaluation"],
    }  # fmt: skip
    given |= {f"{name}.checkpoints": tmp_path / name for name in ("tiny", "tiny_on", "joined")}
    given |= {f"params:models.{name}": parameters["models"][name] for name in ("tiny", "tiny_on", "joined")}
    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()})
    for name in (*wanted, "tiny.captioner", "tiny_on.captioner", "joined.captioner"):
        catalog[name] = Kept(copy_mode="assign")
    SequentialRunner().run(pipeline, catalog)
    said = catalog.load("joined.hypotheses")
    assert said["model"] == "joined" and len(said["default"]) == 4
    assert catalog.load("tiny.calibration")["model"] == "tiny"
