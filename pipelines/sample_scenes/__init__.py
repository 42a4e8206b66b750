from captionloop.pipelines.sample_scenes.pipeline import create_pipeline, create_shifted_pipeline

__all__ = ["create_pipeline", "create_shifted_pipeline"]
