"""Draws a corpus, so that everything runs without anybody's photos."""

from captionloop.pipelines.sample_scenes.nodes import draw_corpus
from kedro.pipeline import Node, Pipeline


def create_pipeline(**_: object) -> Pipeline:
    """The sample scenes: what every other pipeline runs on by default."""
    return Pipeline(
        [
            Node(
                draw_corpus,
                inputs=["params:sample_scenes", "params:language"],
                outputs=["raw_photos", "raw_corpus", "scene_facts"],
                name="draw_sample_scenes",
            )
        ]
    )


def create_shifted_pipeline(**_: object) -> Pipeline:
    """Scenes of another world, with other words, for what people will send to the service later."""
    return Pipeline(
        [
            Node(
                draw_corpus,
                inputs=["params:shifted_scenes", "params:language"],
                outputs=["shifted_photos", "shifted_corpus", "shifted_facts"],
                name="draw_shifted_scenes",
            )
        ]
    )
