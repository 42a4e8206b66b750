"""Teaches captioners: from fresh weights by words, on from there by reward; and joins some to one."""

from collections.abc import Sequence

from captionloop.pipelines.training import nodes
from kedro.pipeline import Node, Pipeline

TAUGHT_BY_WORDS = ("show_and_tell_by_words", "show_attend_tell")
TAUGHT_BY_REWARD = {"show_and_tell": "show_and_tell_by_words", "self_critical": "show_attend_tell"}
"""Each with the captioner that it goes on from."""

TOGETHER = {"ensemble": "self_critical"}
"""Each with the captioner that joins the one it went on from, and whose siblings join them."""

ALL = (*TAUGHT_BY_WORDS, *TAUGHT_BY_REWARD, *TOGETHER)

_MATERIAL = {"images": "training_images", "captions": "training_captions", "features": "features"}
"""The arguments that all have, by the datasets they come from."""
_RESULTS = ("captioner", "curves", "training_metrics")
_LANGUAGE = "params:language"


def create_pipeline(models: Sequence[str] = ALL, **_: object) -> Pipeline:
    """`<model>.captioner` for every one of the models."""
    by_words = [_teaching_by_words(model) for model in TAUGHT_BY_WORDS if model in models]
    by_reward = [
        _teaching_by_reward(model, start=start)
        for model, start in TAUGHT_BY_REWARD.items()
        if model in models
    ]
    together = [
        _caption_together(model, by_reward=first) for model, first in TOGETHER.items() if model in models
    ]
    return sum([*by_words, *by_reward, *together], start=Pipeline([]))


def _teaching_by_words(model: str) -> Pipeline:
    node = Node(
        nodes.train_cross_entropy,
        inputs=_inputs("encoder") | {"language": _LANGUAGE},
        outputs=list(_RESULTS),
        name="train_cross_entropy",
    )
    return Pipeline([node], namespace=model, inputs={*_MATERIAL.values(), "encoder"}, parameters={_LANGUAGE})


def _teaching_by_reward(model: str, *, start: str) -> Pipeline:
    node = Node(
        nodes.train_self_critical,
        inputs=_inputs("start"),
        outputs=list(_RESULTS),
        name="train_self_critical",
    )
    inputs = {name: name for name in _MATERIAL.values()} | {"start": f"{start}.captioner"}
    return Pipeline([node], namespace=model, inputs=inputs)


def _caption_together(model: str, *, by_reward: str) -> Pipeline:
    by_words = TAUGHT_BY_REWARD[by_reward]
    # Not in a namespace: what it is made of lies in those of others.
    node = Node(
        nodes.ensemble_captioners,
        inputs={
            **_MATERIAL,
            "encoder": "encoder",
            "by_words": f"{by_words}.captioner",
            "by_reward": f"{by_reward}.captioner",
            "words": f"params:{by_words}.training",
            "reward": f"params:{by_reward}.training",
            "parameters": f"params:{model}.training",
            "workbench": f"{model}.workbench",
        },
        outputs=f"{model}.captioner",
        name="build_ensemble",
    )
    return Pipeline([node])


def _inputs(*further: str) -> dict[str, str]:
    """The arguments of a node by the datasets they come from."""
    same = {name: name for name in (*further, "workbench")}
    return {**_MATERIAL, **same, "parameters": "params:training"}
