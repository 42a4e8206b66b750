"""The pipelines that `kedro run` knows by name: built of the models that the running environment names."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from kedro.pipeline import Pipeline

from captionloop.config import project_folder, read_configuration
from captionloop.pipelines import (
    data_validation,
    drift,
    encoder_adaptation,
    evaluation,
    feature_caching,
    feedback,
    pretrained,
    registration,
    retraining,
    sample_scenes,
    training,
)
from captionloop.pipelines.training.models import ENSEMBLE, Model, attends, models_of, with_needed

_running: list[Mapping[str, Any]] = []
"""The parameters of the environment that is run; empty while none is."""


def _stage(name: str, pipeline: Pipeline) -> Pipeline:
    """The same nodes in a namespace, which Kedro-Viz folds into one box; datasets keep their names."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)


def use_parameters(parameters: Mapping[str, Any]) -> None:
    """Builds the pipelines of these parameters from now on: those of the environment that is run.

    Raises:
        ConfigurationError: their `models` cannot be built.
    """
    from kedro.framework.project import pipelines  # which sets up logging: not for whoever only builds them

    pipelines_of(parameters)
    _running[:] = [parameters]
    pipelines.configure(__name__)  # Kedro keeps what it was given before


def register_pipelines() -> dict[str, Pipeline]:
    """The pipelines of the environment that is run; while none is, those of `conf/base`."""
    if _running:
        return pipelines_of(_running[0])
    return pipelines_of(read_configuration(project_folder(), "base")["parameters"])


def pipelines_of(parameters: Mapping[str, Any]) -> dict[str, Pipeline]:
    """The pipelines of an environment's parameters.

    Raises:
        ConfigurationError: their `models` cannot be built.
    """
    registered = (parameters.get("registration") or {}).get("model")
    models = models_of(parameters)
    known = {model.name for model in models}
    return _built(models, with_needed(models, registered) if registered in known else models)


def _compared(models: tuple[Model, ...]) -> dict[str, Pipeline]:
    """Training, evaluation and registration of these models."""
    made = training.create_pipeline(models=models)
    objective = {model.name: model.objective for model in models}
    outputs = [name.removesuffix(".captioner") for node in made.nodes for name in node.outputs]
    trained = [name for name in outputs if name in objective]
    curves = [name for name in trained if objective[name] != ENSEMBLE]
    evaluated = evaluation.create_pipeline(models=trained, exhibited=attends(models), with_curves=curves)
    registered = registration.create_pipeline(models=trained)
    parts = {"training": made, "evaluation": evaluated, "registration": registered}
    return {name: _stage(name, pipeline) for name, pipeline in parts.items()}


@cache  # asked for by Kedro, by the check of names and by that of what is configured
def _built(models: tuple[Model, ...], demonstrated: tuple[Model, ...]) -> dict[str, Pipeline]:
    """Each stage by its name, `from_corpus` (all that follows a corpus), `__default__` (the scenes, and all).

    `kedro run` draws the sample scenes and goes through to a registered model; `demo` does so with the model
    that is registered, where `__default__` compares all; `pretrained` begins with a captioner that others
    trained; `kedro run --env flickr8k --pipelines from_corpus` does the same with photos that are there.
    """
    stages = {
        name: _stage(name, module.create_pipeline())
        for name, module in {
            "data_validation": data_validation,
            "encoder_adaptation": encoder_adaptation,
            "feature_caching": feature_caching,
        }.items()
    } | _compared(models)
    drawing = _stage("sample_scenes", sample_scenes.create_pipeline())
    from_corpus = sum(stages.values(), start=Pipeline([]))
    of_one = _compared(demonstrated)
    retrainings = {
        f"retraining_{name}": _stage(f"retraining.{name}", create())
        for name, create in {
            "encoder": retraining.create_encoder_pipeline,
            "caching": retraining.create_caching_pipeline,
            "training": retraining.create_training_pipeline,
            "evaluation": retraining.create_evaluation_pipeline,
            "registration": retraining.create_registration_pipeline,
        }.items()
    }
    return {
        "__default__": drawing + from_corpus,
        "demo": drawing + sum((stages | of_one).values(), start=Pipeline([])),
        "sample_scenes": drawing,
        **stages,
        "from_corpus": from_corpus,
        "pretrained": stages["data_validation"] + _stage("pretrained", pretrained.create_pipeline()),
        "feedback": _stage("feedback", feedback.create_pipeline()),
        **retrainings,
        "retraining": sum(retrainings.values(), start=Pipeline([])),
        "drift": _stage("drift", drift.create_pipeline()),
        "shifted_scenes": _stage("shifted_scenes", sample_scenes.create_shifted_pipeline()),
    }
