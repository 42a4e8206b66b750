"""The node of the ensemble: further captioners of the same recipe, and all of them as one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from captionloop.pipelines.training.nodes import teach_by_reward, teach_by_words

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.parameters import EnsembleParameters, SelfCriticalParameters, TrainingParameters
from captionloop.errors import ConfigurationError

if TYPE_CHECKING:
    from captionloop.vision.encoder import Encoder
    from captionloop.vision.features import CachedFeatures
else:  # Kedro resolves the hints of nodes for every command; torch is not worth importing for that.
    CachedFeatures = Encoder = Any


def teach_together(
    *,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    encoder: Encoder,
    first: Captioner,
    first_curves: pd.DataFrame,
    by_words: TrainingParameters,
    by_reward: SelfCriticalParameters,
    parameters: EnsembleParameters,
    workbench: Path,
) -> tuple[Captioner, pd.DataFrame]:
    """The first captioner and its siblings, one for each seed, as one; and the mean of their last curves."""
    from captionloop.captioner.joining import join

    if by_reward.seed in parameters.seeds:
        raise ConfigurationError(
            f"ensemble.seeds: {by_reward.seed} is the seed of '{first.name}', which is a member already;"
            " give others."
        )
    members, curves = [first], [first_curves]
    material = {"images": images, "captions": captions, "features": features}
    for seed in parameters.seeds:
        place = workbench / f"seed_{seed}"
        taught, _, _ = teach_by_words(
            **material,
            encoder=encoder,
            parameters=by_words.model_copy(update={"seed": seed}),
            workbench=place / "by_words",
        )
        sibling, curve, _ = teach_by_reward(
            **material,
            start=taught,
            parameters=by_reward.model_copy(update={"seed": seed}),
            workbench=place / "by_reward",
        )
        members.append(sibling)
        curves.append(curve)
    mean = pd.concat(curves).groupby("epoch", as_index=False).mean()
    return join(members, parameters.name, parameters.decoding or first.decoding), mean
