"""Teaches captioners: from fresh weights by words, and on from there by reward."""

from captionloop.pipelines.training import nodes
from kedro.pipeline import Node, Pipeline

TAUGHT_BY_WORDS = ("show_and_tell_by_words", "show_attend_tell")
TAUGHT_BY_REWARD = {"show_and_tell": "show_and_tell_by_words", "self_critical": "show_attend_tell"}
"""Each with the captioner that it goes on from."""

_MATERIAL = ("images", "captions", "features")
_RESULTS = ("captioner", "curves", "training_metrics")


def create_pipeline(**_: object) -> Pipeline:
    """`<model>.captioner` for every model."""
    by_words = [_teaching_by_words(model) for model in TAUGHT_BY_WORDS]
    by_reward = [_teaching_by_reward(model, start=start) for model, start in TAUGHT_BY_REWARD.items()]
    return sum([*by_words, *by_reward], start=Pipeline([]))


def _teaching_by_words(model: str) -> Pipeline:
    node = Node(
        nodes.teach_by_words,
        inputs=_inputs("encoder"),
        outputs=list(_RESULTS),
        name="teach_by_words",
    )
    return Pipeline([node], namespace=model, inputs={*_MATERIAL, "encoder"})


def _teaching_by_reward(model: str, *, start: str) -> Pipeline:
    node = Node(
        nodes.teach_by_reward,
        inputs=_inputs("start"),
        outputs=list(_RESULTS),
        name="teach_by_reward",
    )
    inputs = {name: name for name in _MATERIAL} | {"start": f"{start}.captioner"}
    return Pipeline([node], namespace=model, inputs=inputs)


def _inputs(*further: str) -> dict[str, str]:
    """The arguments of a node by the datasets they come from."""
    same = {name: name for name in (*_MATERIAL, *further, "workbench")}
    return same | {"parameters": "params:training"}
