"""The pipelines that `kedro run` knows by name."""

from functools import cache

from kedro.pipeline import Pipeline

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

DEMONSTRATED = ("show_attend_tell",)
"""The captioners that `demo` teaches: the one that is registered, and none to compare it with."""


def _stage(name: str, pipeline: Pipeline) -> Pipeline:
    """The same nodes in a namespace, which Kedro-Viz folds into one box; datasets keep their names."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)


@cache  # asked for by Kedro, by the check of names and by that of what is configured
def register_pipelines() -> dict[str, Pipeline]:
    """Each stage by its name, `from_corpus` (all that follows a corpus), `__default__` (the scenes, and all).

    `kedro run` draws the sample scenes and goes through to a registered model; `demo` does so with one
    captioner, where `__default__` compares five; `pretrained` begins with a captioner that others trained;
    `kedro run --env flickr8k --pipelines from_corpus` does the same with photos that are there.
    """
    stages = {
        name: _stage(name, module.create_pipeline())
        for name, module in {
            "data_validation": data_validation,
            "encoder_adaptation": encoder_adaptation,
            "feature_caching": feature_caching,
            "training": training,
            "evaluation": evaluation,
            "registration": registration,
        }.items()
    }
    drawing = _stage("sample_scenes", sample_scenes.create_pipeline())
    from_corpus = sum(stages.values(), start=Pipeline([]))
    of_one = {
        name: _stage(name, module.create_pipeline(models=DEMONSTRATED))
        for name, module in (
            ("training", training),
            ("evaluation", evaluation),
            ("registration", registration),
        )
    }
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
