"""Sample scenes: small generated pictures with captions, so that everything runs without anybody's photos."""

from captionloop.corpus.scenes.composition import Facts, Group
from captionloop.corpus.scenes.domain import DOMAINS, SAMPLE, SHIFTED, SceneDomain
from captionloop.corpus.scenes.scenes import Scene, SceneParameters, as_corpus, draw_scenes

__all__ = [
    "DOMAINS",
    "SAMPLE",
    "SHIFTED",
    "Facts",
    "Group",
    "Scene",
    "SceneDomain",
    "SceneParameters",
    "as_corpus",
    "draw_scenes",
]
