"""Compares what people send and say with what the served version learnt from; `monitoring` runs it daily."""

from captionloop.pipelines.drift import nodes
from kedro.pipeline import Node, Pipeline

from captionloop.provenance.recording import READS_THE_CLOCK


def create_pipeline(**_: object) -> Pipeline:
    """Registry, ratings and base corpus -> drift_report, drift_page, drift_figure."""
    return Pipeline(
        [
            Node(
                nodes.measure_drift,
                inputs=[
                    "base_model_registry",
                    "ratings_database",
                    "base_images",
                    "base_captions",
                    "base_photos",
                    "base_evaluation_photos",
                    "params:drift",
                    "photo_archive",
                ],
                outputs=["drift_report", "drift_page", "drift_figure"],
                name="measure_drift",
                tags=READS_THE_CLOCK,
            )
        ]
    )
