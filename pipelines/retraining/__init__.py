from captionloop.pipelines.retraining.pipeline import (
    create_caching_pipeline,
    create_encoder_pipeline,
    create_evaluation_pipeline,
    create_registration_pipeline,
    create_training_pipeline,
)

__all__ = [
    "create_caching_pipeline",
    "create_encoder_pipeline",
    "create_evaluation_pipeline",
    "create_registration_pipeline",
    "create_training_pipeline",
]
