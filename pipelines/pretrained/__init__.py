from captionloop.pipelines.pretrained.pipeline import create_pipeline

__all__ = ["create_pipeline"]
