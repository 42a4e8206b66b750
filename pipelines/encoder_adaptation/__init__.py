from captionloop.pipelines.encoder_adaptation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
