"""Checks a corpus as it was read and releases the canonical tables."""

from captionloop.pipelines.data_validation.nodes import check_corpus, inspect_corpus, release_tables
from kedro.pipeline import Node, Pipeline


def create_pipeline(**_: object) -> Pipeline:
    """raw_corpus, raw_photos -> images and captions (and those of training), quarantine, reports."""
    return Pipeline(
        [
            Node(
                inspect_corpus,
                inputs=["raw_corpus", "raw_photos", "params:data_validation"],
                outputs="inspected_photos",
                name="inspect_photos",
            ),
            Node(
                check_corpus,
                inputs=["raw_corpus", "inspected_photos", "params:data_validation", "params:language"],
                outputs=["checked_corpus", "quarantine", "validation_report", "data_docs"],
                name="check_corpus",
            ),
            Node(
                release_tables,
                inputs=["checked_corpus", "validation_report", "params:data_validation"],
                outputs=["images", "captions", "training_images", "training_captions"],
                name="release_tables",
            ),
        ]
    )
