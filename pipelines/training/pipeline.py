"""Trains the models of `models`: by cross-entropy, self-critically on from there, or as ensembles."""

from collections.abc import Sequence

from captionloop.pipelines.training import nodes
from captionloop.pipelines.training.models import CROSS_ENTROPY, SELF_CRITICAL, Model, has_siblings
from kedro.pipeline import Node, Pipeline

_MATERIAL = {"images": "training_images", "captions": "training_captions", "features": "features"}
"""The arguments that all have, by the datasets they come from."""
_RESULTS = ("captioner", "curves", "training_metrics")
_LANGUAGE = "params:language"


def create_pipeline(models: Sequence[Model], **_: object) -> Pipeline:
    """`<model>.captioner` for every one of the models."""
    return sum((_train(model, models) for model in models), start=Pipeline([]))


def _train(model: Model, models: Sequence[Model]) -> Pipeline:
    if model.objective == CROSS_ENTROPY:
        return _train_cross_entropy(model)
    if model.objective == SELF_CRITICAL:
        return _train_self_critical(model)
    return _build_ensemble(model, models)


def _train_cross_entropy(model: Model) -> Pipeline:
    node = Node(
        nodes.train_cross_entropy,
        inputs=_inputs("encoder") | {"language": _LANGUAGE},
        outputs=list(_RESULTS),
        name="train_cross_entropy",
    )
    return Pipeline(
        [node],
        namespace=model.name,
        inputs={*_MATERIAL.values(), "encoder"},
        parameters={_LANGUAGE: _LANGUAGE, "params:training": _parameters(model.name)},
    )


def _train_self_critical(model: Model) -> Pipeline:
    node = Node(
        nodes.train_self_critical,
        inputs=_inputs("start"),
        outputs=list(_RESULTS),
        name="train_self_critical",
    )
    inputs = {name: name for name in _MATERIAL.values()} | {"start": f"{model.needs[0]}.captioner"}
    return Pipeline(
        [node],
        namespace=model.name,
        inputs=inputs,
        parameters={"params:training": _parameters(model.name)},
    )


def _build_ensemble(model: Model, models: Sequence[Model]) -> Pipeline:
    # Not in a namespace: what it is made of lies in those of others.
    name = "build_ensemble" if model.name == "ensemble" else f"build_ensemble_{model.name}"
    parameters = {"parameters": _parameters(model.name)}
    if not has_siblings(model, {each.name: each for each in models}):
        members = {f"{one}.captioner": f"{one}.captioner" for one in model.needs}
        node = Node(
            nodes.join_captioners,
            inputs={**members, **parameters},
            outputs=f"{model.name}.captioner",
            name=name,
        )
        return Pipeline([node])
    by_reward, by_words = model.needs
    node = Node(
        nodes.ensemble_captioners,
        inputs={
            **_MATERIAL,
            "encoder": "encoder",
            "by_words": f"{by_words}.captioner",
            "by_reward": f"{by_reward}.captioner",
            "words": _parameters(by_words),
            "reward": _parameters(by_reward),
            **parameters,
            "checkpoints": f"{model.name}.checkpoints",
        },
        outputs=f"{model.name}.captioner",
        name=name,
    )
    return Pipeline([node])


def _parameters(model: str) -> str:
    return f"params:models.{model}"


def _inputs(*further: str) -> dict[str, str]:
    """The arguments of a node by the datasets they come from."""
    same = {name: name for name in (*further, "checkpoints")}
    return {**_MATERIAL, **same, "parameters": "params:training"}
