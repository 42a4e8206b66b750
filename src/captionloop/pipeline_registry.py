"""The pipelines that `kedro run` knows by name."""

from kedro.pipeline import Pipeline

from captionloop.pipelines import (
    data_validation,
    drift,
    encoder_adaptation,
    evaluation,
    feature_caching,
    feedback,
    registration,
    retraining,
    sample_scenes,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Each stage by its name, `from_corpus` (all that follows a corpus), `__default__` (the scenes, and all).

    `kedro run` draws the sample scenes and goes through to a registered model;
    `kedro run --env flickr8k --pipelines from_corpus` does the same with photos that are there.
    """
    stages = {
        "data_validation": data_validation.create_pipeline(),
        "encoder_adaptation": encoder_adaptation.create_pipeline(),
        "feature_caching": feature_caching.create_pipeline(),
        "training": training.create_pipeline(),
        "evaluation": evaluation.create_pipeline(),
        "registration": registration.create_pipeline(),
    }
    drawing = sample_scenes.create_pipeline()
    from_corpus = sum(stages.values(), start=Pipeline([]))
    return {
        "__default__": drawing + from_corpus,
        "sample_scenes": drawing,
        **stages,
        "from_corpus": from_corpus,
        "feedback": feedback.create_pipeline(),
        "retraining_encoder": retraining.create_encoder_pipeline(),
        "retraining_caching": retraining.create_caching_pipeline(),
        "retraining_training": retraining.create_training_pipeline(),
        "retraining_evaluation": retraining.create_evaluation_pipeline(),
        "retraining_registration": retraining.create_registration_pipeline(),
        "drift": drift.create_pipeline(),
        "shifted_scenes": sample_scenes.create_shifted_pipeline(),
    }
