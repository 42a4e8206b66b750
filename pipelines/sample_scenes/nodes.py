"""The node of the sample scenes."""

import logging
from dataclasses import asdict
from typing import Any

from captionloop.corpus.scenes import SceneParameters, as_corpus, draw_scenes
from captionloop.corpus.tables import RawCorpus
from captionloop.languages import language_of

logger = logging.getLogger(__name__)


def draw_corpus(
    parameters: SceneParameters,
    language: str,
) -> tuple[list[tuple[str, bytes]], RawCorpus, dict[str, dict[str, Any]]]:
    """Draws all scenes: their photos by name, their captions in a language, and what is true of each."""
    scenes = list(draw_scenes(parameters, language_of(language)))
    logger.info("Drew %d scenes of the %s domain", len(scenes), parameters.domain)
    photos = [(scene.name, scene.photo) for scene in scenes]
    return photos, as_corpus(scenes), {scene.name: asdict(scene.facts) for scene in scenes}
