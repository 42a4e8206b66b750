"""Retraining, a pipeline for each step, so that each can be a task.

All of them follow `feedback`, read the corpus of the base workspace, and write to the workspace of their run.
"""

from captionloop.pipelines.retraining import encoding, nodes, noisy_references
from kedro.pipeline import Node, Pipeline

_FROZEN = "base_evaluation_photos"


def create_encoder_pipeline(**_: object) -> Pipeline:
    """References that fit their photos, and the encoder that they teach -> retraining_encoder."""
    return Pipeline(
        [
            Node(
                noisy_references.filter_noisy_references,
                inputs=_lessons("feedback_references", "retraining_examination_checkpoints"),
                outputs=["retraining_references", "retraining_examination"],
                name="filter_noisy_references",
            ),
            Node(
                encoding.finetune_encoder,
                inputs=_lessons("retraining_references", "retraining_encoder_checkpoints"),
                outputs=[
                    "retraining_encoder",
                    "retraining_concept_weights",
                    "retraining_encoder_curves",
                    "retraining_encoder_metrics",
                ],
                name="finetune_encoder",
            ),
        ]
    )


def _lessons(references: str, checkpoints: str) -> list[str]:
    """What an encoder is taught on from: with these references, checkpoints in that folder."""
    return [
        "feedback_origin",
        "feedback_champion_version",
        "base_images",
        "base_captions",
        "base_photos",
        "base_concepts",
        "feedback_images",
        references,
        "photo_archive",
        "erased_ratings",
        "params:retraining_encoder",
        checkpoints,
    ]


def create_caching_pipeline(**_: object) -> Pipeline:
    """Features of everything that will be looked at -> retraining_features, retraining_champion_features."""
    return Pipeline(
        [
            Node(
                encoding.cache,
                inputs=[
                    "retraining_encoder",
                    "feedback_champion",
                    "feedback_champion_version",
                    "base_images",
                    "base_captions",
                    "base_photos",
                    _FROZEN,
                    "base_calibration_photos",
                    "feedback_images",
                    "retraining_references",
                    "feedback_held_out",
                    "photo_archive",
                    "erased_ratings",
                    "retraining_feature_store",
                    "base_feature_store",
                    "params:feature_caching",
                    "params:retraining",
                ],
                outputs=[
                    "retraining_features",
                    "retraining_champion_features",
                    "retraining_held_out",
                    "retraining_caching_report",
                ],
                name="cache_features",
            )
        ]
    )


def create_training_pipeline(**_: object) -> Pipeline:
    """Feedback and replayed corpus -> retraining_captioner, from the weights of the champion's origin."""
    return Pipeline(
        [
            Node(
                nodes.assemble_training_tables,
                inputs=[
                    "base_images",
                    "base_captions",
                    "feedback_images",
                    "retraining_references",
                    "erased_ratings",
                    "feedback_champion_version",
                    "params:retraining",
                ],
                outputs=["retraining_images", "retraining_captions"],
                name="assemble_training_tables",
            ),
            Node(
                nodes.train_candidate,
                inputs=[
                    "retraining_images",
                    "retraining_captions",
                    "retraining_features",
                    "retraining_encoder",
                    "retraining_concept_weights",
                    "feedback_origin",
                    "feedback_champion_version",
                    "feedback_report",
                    "retraining_examination",
                    "params:retraining",
                    "retraining_checkpoints",
                ],
                outputs=["retraining_captioner", "retraining_curves", "retraining_training_metrics"],
                name="train_candidate",
            ),
        ]
    )


def create_evaluation_pipeline(**_: object) -> Pipeline:
    """Candidate and champion on the frozen set and on fresh feedback -> retraining_evaluation, model card."""
    return Pipeline(
        [
            Node(
                nodes.caption_frozen_set,
                inputs=[
                    "retraining_captioner",
                    "feedback_champion",
                    _FROZEN,
                    "retraining_features",
                    "retraining_champion_features",
                    "params:evaluation",
                ],
                outputs=["retraining_hypotheses", "retraining_champion_hypotheses"],
                name="caption_frozen_set",
            ),
            Node(
                nodes.caption_fresh_feedback,
                inputs=[
                    "retraining_captioner",
                    "feedback_champion",
                    "retraining_held_out",
                    "retraining_features",
                    "retraining_champion_features",
                    "params:evaluation",
                ],
                outputs="retraining_fresh_captions",
                name="caption_fresh_feedback",
            ),
            Node(
                nodes.score,
                inputs=[
                    _FROZEN,
                    "base_photos",
                    "base_images",
                    "base_captions",
                    "retraining_images",
                    "retraining_captions",
                    "params:evaluation",
                    "retraining_hypotheses",
                    "retraining_champion_hypotheses",
                    "retraining_held_out",
                ],
                outputs=[
                    "retraining_evaluation",
                    "retraining_caption_scores",
                    "retraining_evaluation_metrics",
                    "retraining_evaluation_table",
                    "retraining_training_data",
                ],
                name="score_captions",
            ),
            Node(
                nodes.calibrate_candidate,
                inputs=[
                    "retraining_captioner",
                    "retraining_hypotheses",
                    "base_calibration_photos",
                    "retraining_features",
                    "feedback_verdicts",
                    "erased_ratings",
                    "params:evaluation",
                ],
                outputs="retraining_calibration",
                name="calibrate_candidate",
            ),
            Node(
                nodes.measure_candidate,
                inputs=[
                    "retraining_captioner",
                    _FROZEN,
                    "base_photos",
                    "retraining_features",
                    "params:evaluation",
                ],
                outputs="retraining_latency",
                name="measure_candidate",
            ),
            Node(
                nodes.write_model_card,
                inputs=[
                    "retraining_captioner",
                    "retraining_calibration",
                    "retraining_latency",
                    "retraining_hypotheses",
                    "retraining_evaluation",
                    _FROZEN,
                    "retraining_training_data",
                ],
                outputs="retraining_model_card",
                name="write_model_card",
            ),
        ]
    )


def create_registration_pipeline(**_: object) -> Pipeline:
    """The candidate at the gate, and in the registry as challenger -> retraining_registered_version."""
    return Pipeline(
        [
            Node(
                nodes.prepare_candidate,
                inputs=[
                    "retraining_captioner",
                    "retraining_evaluation",
                    "retraining_model_card",
                    "retraining_calibration",
                    "retraining_hypotheses",
                    _FROZEN,
                    "retraining_images",
                    "retraining_features",
                    "base_calibration_photos",
                ],
                outputs=["retraining_candidate", "retraining_candidate_captions"],
                name="prepare_candidate",
            ),
            Node(
                nodes.compare_candidate,
                inputs=[
                    "params:registration",
                    _FROZEN,
                    "base_photos",
                    "model_registry",
                    "retraining_candidate",
                    "feedback_champion_version",
                ],
                outputs="retraining_challenge",
                name="compare_with_champion",
            ),
            Node(
                nodes.decide_promotion,
                inputs=[
                    "params:registration",
                    _FROZEN,
                    "base_photos",
                    "retraining_caption_scores",
                    "retraining_candidate_captions",
                    "retraining_challenge",
                    "retraining_fresh_captions",
                    "retraining_champion_hypotheses",
                    "base_scene_facts",
                ],
                outputs=["retraining_gate", "retraining_gate_report"],
                name="decide_promotion",
            ),
            Node(
                nodes.register_challenger,
                inputs=[
                    "model_registry",
                    "retraining_candidate",
                    "retraining_candidate_captions",
                    "retraining_gate",
                    "retraining_gate_report",
                    "retraining_training_data",
                ],
                outputs="retraining_registered_version",
                name="register_challenger",
            ),
        ]
    )
