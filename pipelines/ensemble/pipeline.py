"""Several captioners of one recipe that caption together: better than each, and as slow as all of them.

It goes on from a corpus whose captioners are trained: `kedro run`, then `kedro run --pipelines ensemble`.
"""

from captionloop.pipelines.ensemble import nodes
from captionloop.pipelines.evaluation import create_pipeline as create_evaluation
from captionloop.pipelines.registration import create_pipeline as create_registration
from captionloop.pipelines.training.pipeline import TAUGHT_BY_REWARD
from kedro.pipeline import Node, Pipeline

FIRST, TOGETHER = "self_critical", "ensemble"
"""The captioner that the others are siblings of, and all of them."""


def create_pipeline(**_: object) -> Pipeline:
    """`ensemble.captioner`, beside its first member through evaluation, gate and registration."""
    teaching = Node(
        nodes.teach_together,
        inputs={
            **{name: name for name in ("images", "captions", "features", "encoder")},
            "first": f"{FIRST}.captioner",
            "first_curves": f"{FIRST}.curves",
            "by_words": f"params:{TAUGHT_BY_REWARD[FIRST]}.training",
            "by_reward": f"params:{FIRST}.training",
            "parameters": f"params:{TOGETHER}",
            "workbench": f"{TOGETHER}.workbench",
        },
        outputs=[f"{TOGETHER}.captioner", f"{TOGETHER}.curves"],
        name="teach_together",
    )
    models = (FIRST, TOGETHER)
    after = create_evaluation(models=models, exhibited=TOGETHER), create_registration(models=models)
    return sum(after, start=Pipeline([teaching]))
