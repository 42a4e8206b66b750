"""`models` of the parameters in; which models are trained, by what, and from which others, out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from captionloop.errors import ConfigurationError
from captionloop.paths import nearest

CROSS_ENTROPY: Final = "cross_entropy"
SELF_CRITICAL: Final = "self_critical"
ENSEMBLE: Final = "ensemble"
OBJECTIVES: Final = (CROSS_ENTROPY, SELF_CRITICAL, ENSEMBLE)
TAKEN: Final = {"candidate", "encoder", "initial_encoder", "pretrained", "retrained", "retrained_encoder"}
"""What other folders of a workspace's `06_models` are called."""


@dataclass(frozen=True)
class Model:
    """One block of `models`.

    Attributes:
        objective: one of `OBJECTIVES`.
        needs: the model that it starts from, or its members.
        kind: of its decoder, where it says one.
        seeds: whether an ensemble trains siblings of its first member.
    """

    name: str
    objective: str
    needs: tuple[str, ...] = ()
    kind: str | None = None
    seeds: bool = False


def models_of(parameters: Mapping[str, Any]) -> tuple[Model, ...]:
    """The models that an environment's parameters name, each after those it needs.

    Raises:
        ConfigurationError: a name or an objective is none, or models need one another in a circle.
    """
    blocks = parameters.get("models")
    if not isinstance(blocks, Mapping) or not blocks:
        raise ConfigurationError("Parameter models is empty: it must hold a block for each model to train")
    found = {str(name): _model(str(name), block) for name, block in blocks.items()}
    for model in found.values():
        _check_needs(model, found)
    ordered: dict[str, Model] = {}
    for name in found:
        _add(name, found, ordered, ())
    return tuple(ordered.values())


def with_needed(models: Sequence[Model], name: str) -> tuple[Model, ...]:
    """A model and all that it is made from, in their order."""
    known = {model.name: model for model in models}
    wanted, left = set(), [name]
    while left:
        wanted.add(next_one := left.pop())
        left += known[next_one].needs
    return tuple(model for model in models if model.name in wanted)


def attends(models: Sequence[Model]) -> str:
    """The model whose attention is shown: the first that is trained with one, else the first."""
    attending = [model.name for model in models if model.kind in {"show_attend_tell", "transformer"}]
    return (attending or [model.name for model in models])[0]


def _model(name: str, block: object) -> Model:
    where = f"models.{name}"
    if re.fullmatch("[a-z][a-z0-9_]*", name) is None:
        raise ConfigurationError(
            f"Parameter {where}: a model cannot be called {name!r}: small letters, digits and _ only"
        )
    if name in TAKEN:
        raise ConfigurationError(
            f"Parameter {where}: {name} is what something else is called; choose another"
        )
    if not isinstance(block, Mapping):
        raise ConfigurationError(f"Parameter {where} is {block!r}, and must be a block of values")
    objective = block.get("objective")
    if objective not in OBJECTIVES:
        said = f"Parameter {where}.objective is {objective!r}" if objective else f"{where} has no objective"
        raise ConfigurationError(f"{said}: {nearest(str(objective or ''), OBJECTIVES)}")
    needs = {CROSS_ENTROPY: [], SELF_CRITICAL: [block.get("start_from")], ENSEMBLE: block.get("members")}
    needed = needs[objective]
    if not isinstance(needed, list | tuple) or None in needed:
        lacks = "start_from" if objective == SELF_CRITICAL else "members"
        raise ConfigurationError(
            f"Parameter {where} has no {lacks}: name what a {objective} model is made from"
        )
    decoder = block.get("decoder")
    return Model(
        name,
        objective,
        tuple(map(str, needed)),
        str(decoder.get("kind")) if isinstance(decoder, Mapping) else None,
        bool(block.get("seeds")),
    )


def _check_needs(model: Model, known: Mapping[str, Model]) -> None:
    said = f"models.{model.name}.{'members' if model.objective == ENSEMBLE else 'start_from'}"
    for name in model.needs:
        if name not in known:
            told = nearest(name, known.keys() - {model.name})
            raise ConfigurationError(f"Parameter {said} names {name}, which is no model: {told}")
    if model.objective == SELF_CRITICAL and known[model.needs[0]].objective == ENSEMBLE:
        raise ConfigurationError(
            f"Parameter {said}: an ensemble cannot be trained on; name one of its members"
        )
    if model.objective == ENSEMBLE and len(set(model.needs)) < max(2, len(model.needs)):
        raise ConfigurationError(f"Parameter {said}: an ensemble has two different members at least")
    if model.seeds and not has_siblings(model, known):
        raise ConfigurationError(
            f"Parameter models.{model.name}.seeds: siblings are trained of a self_critical first member whose"
            " start_from is the second; give members of your own instead"
        )


def has_siblings(model: Model, known: Mapping[str, Model]) -> bool:
    """Whether an ensemble is of a self-critical model and the cross-entropy one that it started from."""
    if model.objective != ENSEMBLE or len(model.needs) != 2:
        return False
    first, second = (known[name] for name in model.needs)
    return (
        first.objective == SELF_CRITICAL
        and first.needs == (second.name,)
        and second.objective == CROSS_ENTROPY
    )


def _add(name: str, found: Mapping[str, Model], ordered: dict[str, Model], above: tuple[str, ...]) -> None:
    if name in above:
        circle = " -> ".join([*above[above.index(name) :], name])
        raise ConfigurationError(f"Parameter models: {circle} is a circle; one of them must start by itself")
    for needed in found[name].needs:
        _add(needed, found, ordered, (*above, name))
    ordered.setdefault(name, found[name])
