"""Brings a trained captioner to the gate, and registers it with what the gate decided."""

from collections.abc import Sequence

from captionloop.pipelines.registration import nodes
from kedro.pipeline import Node, Pipeline

_ABOUT_A_MODEL = ("captioner", "hypotheses", "calibration", "model_card")
_PARAMETERS = "params:registration"


def create_pipeline(models: Sequence[str], features: str = "features", **_: object) -> Pipeline:
    """`registration.model` says which of the trained models is the candidate."""
    trained = [f"{model}.{part}" for model in models for part in _ABOUT_A_MODEL]
    return Pipeline(
        [
            Node(
                nodes.prepare_candidate,
                inputs={
                    "parameters": _PARAMETERS,
                    "evaluation": "evaluation",
                    "photos": "evaluation_photos",
                    "images": "images",
                    "features": features,
                    "validation": "calibration_photos",
                    **{name: name for name in trained},
                },
                outputs=["candidate", "candidate_captions"],
                name="prepare_candidate",
            ),
            Node(
                nodes.compare_candidate,
                inputs=[_PARAMETERS, "evaluation_photos", "raw_photos", "model_registry", "candidate"],
                outputs="challenge",
                name="compare_with_champion",
            ),
            Node(
                nodes.decide_promotion,
                inputs=[
                    _PARAMETERS,
                    "evaluation_photos",
                    "raw_photos",
                    "caption_scores",
                    "candidate_captions",
                    "challenge",
                    "scene_facts",
                ],
                outputs=["gate", "gate_report"],
                name="decide_promotion",
            ),
            Node(
                nodes.publish,
                inputs=["gate", "gate_report"],
                outputs=["latest_gate", "latest_gate_report"],
                name="publish_gate",
            ),
            Node(
                nodes.register_candidate,
                inputs=[
                    "model_registry",
                    "candidate",
                    "candidate_captions",
                    "gate",
                    "gate_report",
                    "training_data",
                ],
                outputs="registered_version",
                name="register_candidate",
            ),
        ]
    )
