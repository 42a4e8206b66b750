from captionloop.pipelines.feature_caching.pipeline import create_pipeline

__all__ = ["create_pipeline"]
