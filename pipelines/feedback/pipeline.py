"""From the ratings database to rows to train on; its only input from the right-hand side of the loop."""

from captionloop.pipelines.feedback import nodes
from kedro.pipeline import Node, Pipeline


def create_pipeline(**_: object) -> Pipeline:
    """ratings_database, photo_archive -> feedback_images, feedback_references, ...; a report on the way."""
    return Pipeline(
        [
            Node(
                nodes.fetch_champion,
                inputs="base_model_registry",
                outputs=["feedback_champion", "feedback_origin", "feedback_champion_version"],
                name="fetch_champion",
            ),
            Node(
                nodes.check_ratings,
                inputs="ratings_database",
                outputs=["feedback_ratings", "feedback_unsound", "feedback_findings", "feedback_checks"],
                name="check_ratings",
            ),
            Node(
                nodes.inspect_photos,
                inputs=["feedback_ratings", "photo_archive", "params:feedback"],
                outputs="feedback_photos",
                name="inspect_rated_photos",
            ),
            Node(
                nodes.curate_ratings,
                inputs=[
                    "feedback_ratings",
                    "feedback_photos",
                    "base_images",
                    "base_captions",
                    "abuse_list",
                    "feedback_unsound",
                    "feedback_champion_version",
                    "params:feedback",
                ],
                outputs=[
                    "feedback_images",
                    "feedback_references",
                    "feedback_rejections",
                    "feedback_verdicts",
                    "feedback_held_out",
                    "feedback_raters",
                    "feedback_quarantine",
                    "feedback_report",
                ],
                name="curate_ratings",
            ),
            Node(
                nodes.tell,
                inputs=["feedback_checks", "feedback_findings", "feedback_report"],
                outputs="feedback_data_docs",
                name="tell_feedback",
            ),
        ]
    )
