"""Sample scenes: small generated pictures with captions, so that everything runs without anybody's photos."""

from captionloop.corpus.scenes.layout import Facts, Group
from captionloop.corpus.scenes.render import Scene, SceneParameters, as_corpus, draw_scenes
from captionloop.corpus.scenes.world import DOMAINS, SAMPLE, SHIFTED, SceneDomain

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
