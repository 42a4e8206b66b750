from captionloop.pipelines.ensemble.pipeline import create_pipeline

__all__ = ["create_pipeline"]
