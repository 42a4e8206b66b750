"""Encodes every photo once, and keeps what the encoder saw."""

from captionloop.pipelines.feature_caching.nodes import cache
from kedro.pipeline import Node, Pipeline


def create_pipeline(**_: object) -> Pipeline:
    """images, raw_photos, encoder, feature_store -> features, caching_report."""
    return Pipeline(
        [
            Node(
                cache,
                inputs=["images", "raw_photos", "encoder", "feature_store", "params:feature_caching"],
                outputs=["features", "caching_report"],
                name="cache_features",
            ),
        ]
    )
