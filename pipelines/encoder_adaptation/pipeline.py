"""Teaches the encoder the corpus's own visual concepts: how cached features can still be tuned."""

from captionloop.pipelines.encoder_adaptation import nodes
from kedro.pipeline import Node, Pipeline


def create_pipeline(**_: object) -> Pipeline:
    """The tables of training, raw_photos, pretrained_weights -> concepts, encoder, encoder_curves."""
    return Pipeline(
        [
            Node(
                nodes.find_concepts,
                inputs=[
                    "training_images",
                    "training_captions",
                    "params:encoder_adaptation",
                    "params:language",
                ],
                outputs="concepts",
                name="find_concepts",
            ),
            Node(
                nodes.build_encoder,
                inputs=["pretrained_weights", "params:encoder"],
                outputs="initial_encoder",
                name="build_encoder",
            ),
            Node(
                nodes.finetune_encoder,
                inputs=[
                    "training_images",
                    "training_captions",
                    "concepts",
                    "raw_photos",
                    "initial_encoder",
                    "params:encoder_adaptation",
                    "encoder_checkpoints",
                    "params:language",
                ],
                outputs=["encoder", "encoder_curves", "encoder_metrics"],
                name="finetune_encoder",
            ),
            Node(
                nodes.draw_curves,
                inputs="encoder_curves",
                outputs="encoder_curves_figure",
                name="draw_encoder_curves",
            ),
        ]
    )
